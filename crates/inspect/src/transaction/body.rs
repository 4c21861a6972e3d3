//! The request's body: made readable (content coding, charset, frames), parsed by its processor, and the variables it
//! fills.
//!
//! INVARIANT: what is inspected is what was decoded; what cannot be decoded or parsed exactly sets `REQBODY_ERROR`, and
//! what could be read of it is inspected all the same.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use phalanx_model::limits::BODY_HELD_BYTES_MAX;
use phalanx_policy::seclang::ir::{BodyProcessor, LimitAction, RuleEngine};

use super::state::{List, Member};
use super::values::{Blob, Source};
use super::{Interruption, InterruptionKind, Outcome, Transaction};
use crate::body::charset::{self, Charset, Invalid};
use crate::body::coding::{self, Coding, End, Room};
use crate::body::{self, BodyLimits, BodyParts, Slice};
use crate::program::targets::{XML_ATTRIBUTES, XML_TEXT};

impl Transaction {
    /// Whether the body is wanted: hold up to [`Self::request_body_limit`] bytes of it.
    pub fn wants_request_body(&self) -> bool {
        self.request_body_access && self.engine != RuleEngine::Off && self.interruption.is_none()
    }

    /// How many bytes of the body are inspected.
    pub fn request_body_limit(&self) -> usize {
        let engine = self.program.engine();
        let limit = match self.processor {
            Some(BodyProcessor::Multipart) => engine.request_body_limit,
            _ => engine.request_body_limit.min(engine.request_body_no_files_limit),
        };
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// Takes the request's body, parses it and runs phase 2. `complete` is false when more came than was held.
    pub fn request_body(&mut self, body: Bytes, complete: bool) -> Outcome {
        self.stage(|transaction| transaction.take_request_body(body, complete))
    }

    fn take_request_body(&mut self, body: Bytes, complete: bool) -> Outcome {
        if self.request_body_access && self.engine != RuleEngine::Off {
            if !complete && let Outcome::Interrupt(stop) = self.cut_short() {
                return Outcome::Interrupt(stop);
            }
            let mut parts = BodyParts::default();
            let (readable, fits) = self.readable(&body, complete, &mut parts);
            if complete
                && !fits
                && let Outcome::Interrupt(stop) = self.cut_short()
            {
                return Outcome::Interrupt(stop);
            }
            let body = match readable {
                Some(mut readable) => {
                    readable.shrink_to_fit();
                    self.decoded_bytes = readable.len();
                    Bytes::from(readable)
                }
                None => body,
            };
            self.take_body(body, complete && fits, parts);
        }
        self.scratch.state.epoch += 1;
        self.run_phase(2)
    }

    /// Names and values of the fields of the request's body, as parsers found them; for JSON, names are paths (`json.user.email`).
    pub fn body_arguments(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        let values = &self.scratch.state.values;
        let members = self.scratch.state.list(List::ArgsPost).iter();
        members.map(move |member| (values.bytes(member.name), values.bytes(member.value)))
    }

    /// Memory that inspection takes beside the bodies that came: what they were decoded to, the values that were parsed
    /// out of them, and what transformations made of these.
    pub fn memory(&self) -> usize {
        self.decoded_bytes.saturating_add(self.scratch.state.memory())
    }

    pub(super) fn body_limits(&self) -> BodyLimits {
        let engine = self.program.engine();
        BodyLimits {
            arguments_max: engine.arguments_limit as usize,
            depth_max: engine.request_body_json_depth_limit as usize,
        }
    }

    /// Only a part of the body can be inspected: `SecRequestBodyLimitAction`. A rejection is only recorded while the
    /// engine just detects.
    fn cut_short(&mut self) -> Outcome {
        self.scratch.state.flags.inbound_data_error = true;
        // A body of a type that no processor reads is not inspected, however much of it is held.
        let inspected = self.processor.is_some() || self.force_request_body;
        if !inspected || self.program.engine().request_body_limit_action != LimitAction::Reject {
            return Outcome::Pass;
        }
        let stop = Interruption { rule: 0, status: 413, kind: InterruptionKind::Deny, phase: 2 };
        if self.engine == RuleEngine::DetectionOnly {
            self.would_interrupt.get_or_insert(stop);
            return Outcome::Pass;
        }
        self.interruption.get_or_insert_with(|| stop.clone());
        Outcome::Interrupt(stop)
    }

    /// The body as it is to be parsed, if that is not as it came; and whether all of it fits.
    fn readable(&self, body: &[u8], complete: bool, parts: &mut BodyParts) -> (Option<Vec<u8>>, bool) {
        if body.is_empty() {
            return (None, true);
        }
        let (mut readable, mut fits) = (None, true);
        // A rule set may ask for more than a node ever holds.
        let room = Room {
            bytes_max: self.request_body_limit().min(BODY_HELD_BYTES_MAX),
            ratio_max: self.program.engine().request_body_decoded_ratio,
        };
        match coding::codings(self.request_headers(b"content-encoding")) {
            Err(reason) => parts.fail(reason),
            Ok(codings) if codings.is_empty() => {}
            Ok(codings) => {
                let decoded = coding::decode(body, &codings, room);
                match decoded.end {
                    End::TooLarge => fits = false,
                    End::Cut if !complete => {}
                    end => end.reason().into_iter().for_each(|reason| parts.fail(reason)),
                }
                // Nothing at all could be read: what came is looked at as it is.
                readable = Some(decoded.body).filter(|body| !body.is_empty() || parts.error.is_none());
            }
        }
        let text = readable.as_deref().unwrap_or(body);
        if let Some(decoded) = self.in_utf8(text, complete && fits, parts) {
            readable = Some(decoded);
        }
        if self.processor == Some(BodyProcessor::Grpc) {
            let text = readable.as_deref().unwrap_or(body);
            if let Some(plain) = self.grpc_frames(text, room, parts) {
                readable = Some(plain);
            }
        }
        (readable, fits)
    }

    /// The text in UTF-8, if it is in another charset; one that cannot be read is an error.
    fn in_utf8(&self, text: &[u8], complete: bool, parts: &mut BodyParts) -> Option<Vec<u8>> {
        use BodyProcessor as P;
        if matches!(self.processor, Some(P::Protobuf | P::Grpc)) {
            return None;
        }
        let mut types = self.request_headers(b"content-type");
        let media_type = types.next().unwrap_or_default();
        let differs = types.any(|other| other != media_type);
        let mut charset = charset::of_media_type(media_type);
        match self.processor {
            Some(P::Xml) if charset == Ok(None) => charset = Ok(charset::of_xml(text)),
            Some(P::Json | P::JsonLines | P::Graphql) if charset == Ok(None) => {
                charset = charset::of_wide_text(text)
                    .map(
                        |(shown, marked)| if marked { Ok(shown) } else { Err(Invalid::NoByteOrder.reason()) },
                    )
                    .transpose();
            }
            // It may be JSON, in another charset than it says: that is found out where it is parsed.
            None if charset::of_wide_json(text).is_some() => return None,
            _ => {}
        }
        let is_form = matches!(self.processor, Some(P::Urlencoded | P::Multipart));
        // Escapes and parts of a form are in the charset themselves: only what extends ASCII can be read as it is.
        if is_form && charset.is_ok_and(|found| found.is_some_and(|found| !found.extends_ascii())) {
            charset = Err("a charset that is not read in forms");
        }
        // A body that no processor reads is none of ours to complain about.
        let complains = self.processor.is_some();
        if complains && differs {
            parts.fail("two content types");
        }
        let charset = match charset {
            Ok(Some(charset)) if !is_form && charset != Charset::Utf8 => charset,
            Ok(_) => return None,
            Err(reason) => {
                if complains {
                    parts.fail(reason);
                }
                return None;
            }
        };
        match charset::decode(text, charset) {
            Ok(Cow::Borrowed(_)) => None,
            Ok(Cow::Owned(decoded)) => Some(decoded),
            Err((decoded, invalid)) => {
                if complains && (complete || invalid != Invalid::Cut) {
                    parts.fail(invalid.reason());
                }
                Some(decoded).filter(|decoded| !decoded.is_empty())
            }
        }
    }

    /// gRPC frames out of base64 and decompressed, if they are not plain already.
    fn grpc_frames(&self, body: &[u8], room: Room, parts: &mut BodyParts) -> Option<Vec<u8>> {
        let media_type = self.request_headers(b"content-type").next().unwrap_or_default();
        let is_text = starts_with(media_type, b"application/grpc-web-text");
        let frames = match is_text.then(|| base64::engine::general_purpose::STANDARD.decode(body)) {
            None => Cow::Borrowed(body),
            Some(Ok(frames)) => Cow::Owned(frames),
            Some(Err(_)) => {
                parts.fail("gRPC: not base64");
                return None;
            }
        };
        let encoding = self.request_headers(b"grpc-encoding").next();
        let coding = encoding.filter(|name| name.eq_ignore_ascii_case(b"gzip")).map(|_| Coding::Gzip);
        match body::grpc_plain(&frames, coding, room) {
            Ok(Cow::Owned(plain)) => Some(plain),
            Ok(Cow::Borrowed(_)) => match frames {
                Cow::Owned(frames) => Some(frames),
                Cow::Borrowed(_) => None,
            },
            Err((plain, reason)) => {
                parts.fail(format!("gRPC: {reason}"));
                Some(plain)
            }
        }
    }

    /// Parses the body; `complete` is false when this is not all of it.
    fn take_body(&mut self, body: Bytes, complete: bool, mut parts: BodyParts) {
        let program = Arc::clone(&self.program);
        let limits = self.body_limits();
        let separator = program.engine().argument_separator;
        match self.processor {
            _ if body.is_empty() => {}
            Some(BodyProcessor::Urlencoded) => {
                let text = if complete { &body } else { without_cut_escape(&body) };
                body::urlencoded(text, separator, &limits, &mut parts);
                body::graphql_over_http(text, &limits, &mut parts);
            }
            Some(BodyProcessor::Multipart) => {
                let content_type = self.request_headers(b"content-type").next().unwrap_or_default();
                body::multipart(&body, content_type, &limits, &mut parts);
            }
            Some(BodyProcessor::Json) => {
                body::json(&body, &limits, &mut parts);
                body::graphql_over_http(&body, &limits, &mut parts);
            }
            Some(BodyProcessor::JsonLines) if body.starts_with(b"\x1e") => {
                body::json_sequence(&body, &limits, &mut parts);
            }
            Some(BodyProcessor::JsonLines) => body::json_lines(&body, &limits, &mut parts),
            Some(BodyProcessor::Graphql) => body::graphql(&body, &limits, &mut parts),
            Some(BodyProcessor::Protobuf) => body::protobuf(&body, &limits, &mut parts),
            Some(BodyProcessor::Grpc) => body::grpc(&body, &limits, &mut parts),
            Some(BodyProcessor::Xml) => body::xml(&body, self.xml_into_args, &limits, &mut parts),
            None => unlabelled(&body, self.force_request_body, &limits, &mut parts),
        }
        if !complete {
            parts.forgive_end();
        }
        // As in ModSecurity v3 and Coraza, `REQUEST_BODY` is there for JSON too. For multipart and XML it is not unless a
        // rule asks for it, nor for messages in a binary form: what is text in them is in variables of their own.
        let kept = match self.processor {
            Some(
                BodyProcessor::Urlencoded
                | BodyProcessor::Json
                | BodyProcessor::JsonLines
                | BodyProcessor::Graphql,
            ) => true,
            _ => self.force_request_body,
        };
        let state = &mut self.scratch.state;
        state.flags.request_body_kept = kept;
        let whole = Blob::new(Source::Body, 0, body.len());
        state.values.buffers.body = body;
        self.take_parts(&parts, whole);
    }

    fn take_parts(&mut self, parts: &BodyParts, whole: Blob) {
        let state = &mut self.scratch.state;
        let base = state.values.buffers.push(&parts.arena);
        let at = |slice| place(slice, whole, base);
        for arg in &parts.args {
            state.add(List::ArgsPost, at(arg.name), at(arg.value));
        }
        for file in &parts.files {
            state.add(List::Files, at(file.field), at(file.filename));
            state.add(List::FilesContent, at(file.field), at(file.content));
            let size = at(file.content).len;
            state.files_bytes += u64::from(size);
            let size = state.values.buffers.push(size.to_string().as_bytes());
            state.add(List::FilesSizes, at(file.field), size);
        }
        for header in &parts.part_headers {
            state.add(List::PartHeaders, at(header.name), at(header.value));
        }
        for &name in &parts.part_names {
            state.add(List::PartNames, at(name), at(name));
        }
        for (place, &filename) in parts.part_filenames.iter().enumerate() {
            let field = parts.files.get(place).map_or(filename, |file| file.field);
            state.add(List::PartFilenames, at(field), at(filename));
        }
        if let Some(text) = parts.xml_text {
            let name = state.values.buffers.push(XML_TEXT);
            state.add(List::XmlText, name, at(text));
        }
        for &(kind, value) in &parts.xml_asides {
            let name = state.values.buffers.push(kind.xpath());
            state.add(List::XmlText, name, at(value));
        }
        let name = state.values.buffers.push(XML_ATTRIBUTES);
        for &value in &parts.xml_attributes {
            state.add(List::XmlAttributes, name, at(value));
        }
        state.multipart = parts.multipart;
        state.flags.urlencoded_error |= parts.urlencoded_error;
        state.reqbody_error.clone_from(&parts.error);
    }

    /// The values of the request header fields of this name; the name in lower case.
    fn request_headers<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let values = &self.scratch.state.values;
        let named = move |member: &&Member| values.bytes(member.name).eq_ignore_ascii_case(name);
        let members = self.scratch.state.list(List::RequestHeaders).iter();
        members.filter(named).map(move |member| values.bytes(member.value))
    }
}

/// A parsed slice as a span: of what was parsed, or of the arena copy that starts at `base`.
pub(super) fn place(slice: Slice, parsed: Blob, base: Blob) -> Blob {
    match slice {
        Slice::Body { start, end } => parsed.part(start as usize, end as usize),
        Slice::Arena { start, end } => base.part(start as usize, end as usize),
    }
}

/// The processor that a content type chooses by itself; JSON and XML are chosen by rules.
pub(super) fn processor_of(content_type: &[u8]) -> Option<BodyProcessor> {
    let processors: [(BodyProcessor, &[&[u8]]); 6] = [
        (BodyProcessor::Urlencoded, &[b"application/x-www-form-urlencoded"]),
        (BodyProcessor::Multipart, &[b"multipart/form-data"]),
        (BodyProcessor::Graphql, &[b"application/graphql"]),
        (
            BodyProcessor::JsonLines,
            &[
                b"application/x-ndjson",
                b"application/ndjson",
                b"application/jsonl",
                b"application/x-jsonl",
                b"application/json-seq",
            ],
        ),
        (
            BodyProcessor::Protobuf,
            &[
                b"application/protobuf",
                b"application/x-protobuf",
                b"application/x-google-protobuf",
                b"application/vnd.google.protobuf",
            ],
        ),
        (BodyProcessor::Grpc, &[b"application/grpc"]),
    ];
    let chooses = |processor: BodyProcessor, name: &[u8]| {
        // Of names that begin with another one, as `application/graphql-response+json` does, all are of that kind; but
        // GraphQL has a form that is JSON.
        let whole = || !content_type.trim_ascii_start().get(name.len()).is_some_and(|&b| is_name(b));
        starts_with(content_type, name) && (processor != BodyProcessor::Graphql || whole())
    };
    let mut all = processors.into_iter();
    all.find(|(processor, names)| names.iter().any(|name| chooses(*processor, name))).map(|found| found.0)
}

fn starts_with(content_type: &[u8], name: &[u8]) -> bool {
    content_type.trim_ascii_start().get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_')
}

/// A form without an escape at its end that is not all there.
fn without_cut_escape(body: &[u8]) -> &[u8] {
    match body {
        [rest @ .., b'%'] | [rest @ .., b'%', _] => rest,
        _ => body,
    }
}

/// A body that its type does not give to a processor. Many back ends read JSON whatever it is called, so what looks like
/// JSON is read as JSON; as nobody said that it is, a fault in it is none of the request's. That its coding cannot be
/// undone is: it may hide more.
fn unlabelled(body: &[u8], forced: bool, limits: &BodyLimits, parts: &mut BodyParts) {
    let coded = parts.error.take();
    let text = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    if let Some(charset) = charset::of_wide_json(body) {
        let (text, whole) = match charset::decode(body, charset) {
            Ok(text) => (text, true),
            Err((text, _)) => (Cow::Owned(text), false),
        };
        let mut inner = BodyParts::default();
        let exact = guessed_json(&text, limits, &mut inner);
        parts.absorb_text(&inner, &text);
        if !exact || !whole {
            // It may be no such text after all.
            parts.add_whole(body);
        }
        parts.error = coded;
    } else if matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')) {
        guessed_json(body, limits, parts);
        parts.error = coded;
    } else if forced {
        parts.error = coded;
    }
}

/// Reads what may be JSON; false when it is none exactly.
fn guessed_json(body: &[u8], limits: &BodyLimits, parts: &mut BodyParts) -> bool {
    body::json(body, limits, parts);
    let exact = parts.error.is_none();
    (parts.error, parts.ends_early, parts.json_duplicate_key) = (None, false, false);
    if exact {
        body::graphql_over_http(body, limits, parts);
    } else {
        // A parser that forgives more, or goes deeper, reads what ours did not.
        parts.add_whole(body);
    }
    exact
}
