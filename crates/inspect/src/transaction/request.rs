//! The request: its head, its body, and the variables they fill. Semantics are ModSecurity v3's (3.0.12 and later:
//! the path is cut off before it is decoded, so that `%3F` does not hide anything).

use std::sync::Arc;

use bytes::Bytes;
use phalanx_model::RequestHead;
use phalanx_policy::seclang::ir::{BodyProcessor, LimitAction, RuleEngine};

use super::state::{Blob0, List};
use super::values::{Blob, Source};
use super::{Interruption, InterruptionKind, Outcome, Transaction};
use crate::body::{self, BodyLimits, BodyParts, Slice};

impl Transaction {
    /// Takes the request's head and runs phase 1.
    pub fn request_head(&mut self, head: &RequestHead) -> Outcome {
        self.take_head(head);
        self.run_phase(1)
    }

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
        if self.request_body_access && self.engine != RuleEngine::Off {
            if !complete {
                self.scratch.state.flags.inbound_data_error = true;
                // A body of a type that no processor reads is not inspected, however much of it is held.
                let inspected = self.processor.is_some() || self.force_request_body;
                let rejects =
                    inspected && self.program.engine().request_body_limit_action == LimitAction::Reject;
                if rejects && let Outcome::Interrupt(stop) = self.over_limit() {
                    return Outcome::Interrupt(stop);
                }
            }
            self.take_body(body);
        }
        self.scratch.state.epoch += 1;
        self.run_phase(2)
    }

    /// `SecRequestBodyLimitAction Reject`; only recorded while the engine just detects.
    fn over_limit(&mut self) -> Outcome {
        let stop = Interruption { rule: 0, status: 413, kind: InterruptionKind::Deny, phase: 2 };
        if self.engine == RuleEngine::DetectionOnly {
            self.would_interrupt.get_or_insert(stop);
            return Outcome::Pass;
        }
        self.interruption.get_or_insert_with(|| stop.clone());
        Outcome::Interrupt(stop)
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
        body::urlencoded(state.values.buffers.bytes(query), separator, &limits, &mut parts);
        state.flags.urlencoded_error |= parts.urlencoded_error;
        let base = state.values.buffers.push(&parts.arena);
        for arg in &parts.args {
            state.add(List::ArgsGet, place(arg.name, query, base), place(arg.value, query, base));
        }
    }

    fn body_limits(&self) -> BodyLimits {
        let engine = self.program.engine();
        BodyLimits {
            arguments_max: engine.arguments_limit as usize,
            depth_max: engine.request_body_json_depth_limit as usize,
        }
    }

    fn take_body(&mut self, body: Bytes) {
        let program = Arc::clone(&self.program);
        let limits = self.body_limits();
        let mut parts = BodyParts::default();
        let separator = program.engine().argument_separator;
        match self.processor {
            _ if body.is_empty() => {}
            Some(BodyProcessor::Urlencoded) => body::urlencoded(&body, separator, &limits, &mut parts),
            Some(BodyProcessor::Multipart) => {
                let content_type = self.request_header(b"content-type");
                let content_type =
                    content_type.map(|id| self.scratch.state.values.bytes(id)).unwrap_or_default();
                body::multipart(&body, content_type, &limits, &mut parts);
            }
            Some(BodyProcessor::Json) => body::json(&body, &limits, &mut parts),
            Some(BodyProcessor::Xml) => body::xml(&body, self.xml_into_args, &limits, &mut parts),
            None => unlabelled(&body, &limits, &mut parts),
        }
        // As in ModSecurity v3 and Coraza, `REQUEST_BODY` is there for JSON too. For multipart it is not: files are no
        // text, and the parts are in variables of their own.
        let kept = match self.processor {
            Some(BodyProcessor::Urlencoded | BodyProcessor::Json) => true,
            Some(BodyProcessor::Multipart | BodyProcessor::Xml) => false,
            None => self.force_request_body,
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
            state.add(List::XmlText, Blob::EMPTY, at(text));
        }
        for &value in &parts.xml_attributes {
            state.add(List::XmlAttributes, Blob::EMPTY, at(value));
        }
        state.multipart = parts.multipart;
        state.flags.urlencoded_error |= parts.urlencoded_error;
        state.reqbody_error.clone_from(&parts.error);
    }

    /// The first value of a request header field; the name in lower case.
    pub(crate) fn request_header(&self, name: &[u8]) -> Option<super::values::ValueId> {
        let state = &self.scratch.state;
        let named =
            |member: &&super::state::Member| state.values.bytes(member.name).eq_ignore_ascii_case(name);
        state.list(List::RequestHeaders).iter().find(named).map(|member| member.value)
    }
}

/// A body that its type does not give to a processor. Many back ends read JSON whatever it is called, so what looks like
/// JSON is read as JSON; as nobody said that it is, a fault in it is none of the request's.
fn unlabelled(body: &[u8], limits: &BodyLimits, parts: &mut BodyParts) {
    if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        body::json(body, limits, parts);
        parts.error = None;
        parts.json_duplicate_key = false;
    }
}

/// The protocol as the request line has it, which need not be a version we speak. A line without one is a simple
/// request (RFC 1945 section 4.1), which servers call HTTP/0.9.
fn protocol_text(head: &RequestHead) -> &[u8] {
    let line = head.raw.get(head.target.range().end..).unwrap_or_default();
    let line = line.split(|&b| b == b'\r' || b == b'\n').next().unwrap_or_default().trim_ascii();
    if line.is_empty() { b"HTTP/0.9" } else { line }
}

/// A parsed slice as a span: of what was parsed, or of the arena copy that starts at `base`.
fn place(slice: Slice, parsed: Blob, base: Blob) -> Blob {
    match slice {
        Slice::Body { start, end } => parsed.part(start as usize, end as usize),
        Slice::Arena { start, end } => base.part(start as usize, end as usize),
    }
}

/// The processor that a content type chooses by itself; JSON and XML are chosen by rules.
fn processor_of(content_type: &[u8]) -> Option<BodyProcessor> {
    let starts = |name: &[u8]| {
        content_type.trim_ascii_start().get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name))
    };
    if starts(b"application/x-www-form-urlencoded") {
        Some(BodyProcessor::Urlencoded)
    } else if starts(b"multipart/form-data") {
        Some(BodyProcessor::Multipart)
    } else {
        None
    }
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

/// `%HH` decoded, everything else as it is.
fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|&b| char::from(b).to_digit(16));
        if first == b'%'
            && let (Some(high), Some(low)) = (digit(0), digit(1))
        {
            out.push(u8::try_from(high * 16 + low).unwrap_or_default());
            rest = after.get(2..).unwrap_or_default();
        } else {
            out.push(first);
            rest = after;
        }
    }
    out
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
