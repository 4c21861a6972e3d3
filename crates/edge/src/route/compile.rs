//! From what policy says is done beyond forwarding to what workers do: files are read, and what several routes share is made once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use phalanx_model::limits::REPLY_BODY_BYTES_MAX;
use phalanx_policy::route::{self, ReplyBody};
use phalanx_policy::seclang::read_file;
use phalanx_policy::{Diagnostic, Files, handling};

use super::edit::{Edits, ResponseEdits};
use super::pages::{Page, Pages};
use super::{Does, Handling, Maintenance, Parts};
use crate::page::brand::{Brand, picture};

/// What was made so far of one policy.
pub(crate) struct Handlings<'a> {
    files: Files<'a>,
    /// By the address of what it was made of, which the policy holds until all is made.
    parts: HashMap<*const handling::Handling, Arc<Parts>>,
    /// What many apps have in common; `None` for a file with a fault, which is told once.
    pages: HashMap<PathBuf, Option<Arc<Page>>>,
    bodies: HashMap<PathBuf, Bytes>,
    pub(crate) errors: Vec<Diagnostic>,
}

impl<'a> Handlings<'a> {
    pub(crate) fn new(files: Files<'a>) -> Self {
        let (parts, pages, bodies) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { files, parts, pages, bodies, errors: Vec::new() }
    }

    /// What is done for an app, or for a route whose path has `depth` segments; `None` for nothing.
    pub(crate) fn of(
        &mut self,
        handling: &Arc<handling::Handling>,
        depth: usize,
        does: &route::Does,
    ) -> Option<Arc<Handling>> {
        let does = match does {
            route::Does::Forward { rewrite: None } if **handling == handling::Handling::default() => {
                return None;
            }
            route::Does::Forward { rewrite: None } => Does::Forward,
            route::Does::Forward { rewrite: Some(with) } => Does::Rewrite(with.as_str().into()),
            route::Does::Redirect { to, status } => Does::Redirect { to: to.clone(), status: *status },
            route::Does::Reply(reply) => Does::Reply {
                status: reply.status,
                content_type: reply.content_type.as_str().into(),
                body: self.body(&reply.body),
            },
        };
        Some(Arc::new(Handling { does, depth, parts: self.parts(handling) }))
    }

    fn parts(&mut self, handling: &Arc<handling::Handling>) -> Arc<Parts> {
        let key = Arc::as_ptr(handling);
        if let Some(parts) = self.parts.get(&key) {
            return Arc::clone(parts);
        }
        let responses = &handling.responses;
        let edits = Edits::new(&handling.response_headers);
        let plain = *responses == handling::Responses::default() && edits.is_empty();
        let parts = Arc::new(Parts {
            maintenance: handling.maintenance.as_ref().map(|maintenance| Maintenance {
                retry_after_s: maintenance.retry_after_s,
                allow: maintenance.allow.iter().copied().collect(),
            }),
            upstream_host: handling.upstream_host.clone(),
            requests: Edits::new(&handling.request_headers),
            responses: (!plain).then(|| ResponseEdits {
                standard: responses.standard,
                hsts: responses.hsts.as_ref().map(|hsts| hsts.as_bytes().into()),
                cookies: responses
                    .cookies
                    .as_ref()
                    .map(|cookies| cookies.except.iter().map(|name| name.as_bytes().into()).collect()),
                edits,
            }),
            pages: self.pages(&handling.pages),
        });
        self.parts.insert(key, Arc::clone(&parts));
        parts
    }

    fn pages(&mut self, pages: &handling::Pages) -> Option<Pages> {
        if *pages == handling::Pages::default() {
            return None;
        }
        let mut page = |path: &Option<PathBuf>| path.as_ref().and_then(|path| self.page(path));
        let refused = page(&pages.refused);
        let error = page(&pages.error);
        let maintenance = page(&pages.maintenance);
        Some(Pages { refused, error, maintenance, brand: self.brand(&pages.brand), problem: pages.problem })
    }

    fn brand(&mut self, brand: &handling::Brand) -> Option<Arc<Brand>> {
        if *brand == handling::Brand::default() {
            return None;
        }
        let logo = brand.logo.as_ref().and_then(|path| {
            let logo = self.read(path).and_then(|bytes| picture(&path.display().to_string(), &bytes));
            logo.map_err(|message| self.fault(path, message)).ok()
        });
        Some(Arc::new(Brand::new(brand, logo.as_deref())))
    }

    fn page(&mut self, path: &Path) -> Option<Arc<Page>> {
        if let Some(known) = self.pages.get(path) {
            return known.clone();
        }
        let text = self
            .read(path)
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "the page is not UTF-8".to_owned()));
        let page = text.and_then(|text| Page::read(&text)).map(Arc::new);
        let page = page.map_err(|message| self.fault(path, message)).ok();
        self.pages.insert(path.to_owned(), page.clone());
        page
    }

    fn body(&mut self, body: &ReplyBody) -> Bytes {
        let path = match body {
            ReplyBody::Text(text) => return Bytes::copy_from_slice(text.as_bytes()),
            ReplyBody::File(path) => path,
        };
        if let Some(known) = self.bodies.get(path) {
            return known.clone();
        }
        let bytes = match self.read(path) {
            Ok(bytes) if bytes.len() > REPLY_BODY_BYTES_MAX => {
                let bytes = bytes.len();
                self.fault(path, format!("the reply has {bytes} bytes; {REPLY_BODY_BYTES_MAX} are possible"));
                Bytes::new()
            }
            Ok(bytes) => bytes.into(),
            Err(message) => {
                self.fault(path, message);
                Bytes::new()
            }
        };
        self.bodies.insert(path.clone(), bytes.clone());
        bytes
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        read_file(self.files, &path.display().to_string())
    }

    fn fault(&mut self, path: &Path, message: String) {
        self.errors.push(Diagnostic::error(path.display().to_string(), 0, message));
    }
}
