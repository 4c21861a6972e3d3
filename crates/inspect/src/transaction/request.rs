//! The request's head and the variables it fills. Semantics are ModSecurity v3's (3.0.12 and later:
//! the path is cut off before it is decoded, so that `%3F` does not hide anything).

use phalanx_model::RequestHead;

use super::body::{place, processor_of};
use super::state::{Blob0, List};
use super::values::{Blob, Source};
use super::{Outcome, Transaction};
use crate::body::urlencoded::percent_decoded;
use crate::body::{self, BodyLimits, BodyParts};

impl Transaction {
    /// Takes the request's head and runs phase 1.
    pub fn request_head(&mut self, head: &RequestHead) -> Outcome {
        self.stage(|transaction| {
            transaction.take_head(head);
            transaction.run_phase(1)
        })
    }

    fn take_head(&mut self, head: &RequestHead) {
        let state = &mut self.scratch.state;
        state.values.buffers.head = head.raw.clone();
        let span = |span: phalanx_model::Span| {
            // A span that does not lie in the head reads as empty.
            let (start, end) = (span.start as usize, span.end as usize);
            if end <= head.raw.len() { Blob::new(Source::Head, start, end) } else { Blob::EMPTY }
        };
        let method = span(head.method);
        let target = span(head.target);
        state.scalars.method = Blob0(method);
        state.scalars.protocol = Blob0(state.values.buffers.push(protocol_text(head)));
        let line_end = head.raw.iter().position(|&b| b == b'\r' || b == b'\n').unwrap_or(head.raw.len());
        state.scalars.line = Blob0(Blob::new(Source::Head, method.start as usize, line_end));
        state.scalars.head =
            phalanx_model::Span { start: 0, end: u32::try_from(head.raw.len()).unwrap_or(0) };
        self.take_target(target);
        // The head is bounded, so every cookie can be looked at.
        let limits = BodyLimits { arguments_max: usize::MAX, ..self.body_limits() };
        let state = &mut self.scratch.state;
        for field in &head.fields {
            let (name, value) = (span(field.name), span(field.value));
            state.add(List::RequestHeaders, name, value);
            let name = state.values.buffers.bytes(name);
            if name.eq_ignore_ascii_case(b"cookie") {
                let mut parts = BodyParts::default();
                body::cookies(state.values.buffers.bytes(value), &limits, &mut parts);
                let base = state.values.buffers.push(&parts.arena);
                for arg in &parts.args {
                    let (name, value) = (place(arg.name, value, base), place(arg.value, value, base));
                    state.add(List::Cookies, name, value);
                }
            } else if name.eq_ignore_ascii_case(b"host") {
                state.scalars.host = Blob0(value);
            } else if name.eq_ignore_ascii_case(b"content-type") {
                self.processor = processor_of(state.values.buffers.bytes(value)).or(self.processor);
            }
        }
    }

    fn take_target(&mut self, target: Blob) {
        let limits = self.body_limits();
        let separator = self.program.engine().argument_separator;
        let state = &mut self.scratch.state;
        state.scalars.uri_raw = Blob0(target);
        let raw = state.values.buffers.bytes(target);
        let question = raw.iter().position(|&b| b == b'?');
        let path_end = question.unwrap_or(raw.len());
        let origin = origin_start(raw.get(..path_end).unwrap_or_default());
        let length = raw.len();
        state.scalars.uri = Blob0(target.part(origin, length));
        let path = target.part(origin, path_end);
        let filename = if state.values.buffers.bytes(path).contains(&b'%') {
            // Not `urlDecode`: a `+` in a path is a plus sign.
            let decoded = percent_decoded(state.values.buffers.bytes(path));
            state.values.buffers.push(&decoded)
        } else {
            path
        };
        state.scalars.filename = Blob0(filename);
        let name = state.values.buffers.bytes(filename);
        let slash = name.iter().rposition(|&b| b == b'/' || b == b'\\').map_or(0, |at| at + 1);
        let name_len = name.len();
        state.scalars.basename = Blob0(filename.part(slash, name_len));
        let Some(question) = question else {
            return;
        };
        let query = target.part(question + 1, length);
        state.scalars.query = Blob0(query);
        let mut parts = BodyParts::default();
        let text = state.values.buffers.bytes(query);
        body::urlencoded(text, separator, &limits, &mut parts);
        body::graphql_over_http(text, &limits, &mut parts);
        state.flags.urlencoded_error |= parts.urlencoded_error;
        let base = state.values.buffers.push(&parts.arena);
        for arg in &parts.args {
            state.add(List::ArgsGet, place(arg.name, query, base), place(arg.value, query, base));
        }
    }

    /// The first value of a request header field; the name in lower case.
    pub(crate) fn request_header(&self, name: &[u8]) -> Option<super::values::ValueId> {
        let state = &self.scratch.state;
        let named =
            |member: &&super::state::Member| state.values.bytes(member.name).eq_ignore_ascii_case(name);
        state.list(List::RequestHeaders).iter().find(named).map(|member| member.value)
    }
}

/// The protocol as the request line has it, which need not be a version we speak. A line without one is a simple
/// request (RFC 1945 section 4.1), which servers call HTTP/0.9.
fn protocol_text(head: &RequestHead) -> &[u8] {
    let line = head.raw.get(head.target.range().end..).unwrap_or_default();
    let line = line.split(|&b| b == b'\r' || b == b'\n').next().unwrap_or_default().trim_ascii();
    if line.is_empty() { b"HTTP/0.9" } else { line }
}

/// Where the path starts in a target: after scheme and authority of the absolute form, else at once.
fn origin_start(path: &[u8]) -> usize {
    if path.first() == Some(&b'/') {
        return 0;
    }
    let Some(scheme) = memchr::memmem::find(path, b"://") else {
        return 0;
    };
    let authority = path.get(scheme + 3..).unwrap_or_default();
    authority.iter().position(|&b| b == b'/').map_or(0, |slash| scheme + 3 + slash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_after_the_authority() {
        let path = |target: &'static [u8]| &target[origin_start(target)..];
        assert_eq!(path(b"/a//b"), b"/a//b");
        assert_eq!(path(b"http://host/a"), b"/a");
        assert_eq!(path(b"http://host"), b"http://host");
        assert_eq!(path(b"//host/a"), b"//host/a");
        assert_eq!(path(b"*"), b"*");
    }

    #[test]
    fn a_plus_in_a_path_stays() {
        assert_eq!(percent_decoded(b"/a+b%2e%2"), b"/a+b.%2");
    }
}
