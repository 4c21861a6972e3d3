//! The response: status, header fields, body.

use bytes::Bytes;
use phalanx_policy::seclang::ir::{LimitAction, RuleEngine};

use super::state::{List, Member};
use super::{Interruption, InterruptionKind, Outcome, Transaction};
use crate::body::coding::{self, End, Room};

impl Transaction {
    /// Takes the response's head and runs phase 3.
    pub fn response_head(
        &mut self,
        status: u16,
        fields: &mut dyn Iterator<Item = (&[u8], &[u8])>,
    ) -> Outcome {
        self.stage(|transaction| transaction.take_response_head(status, fields))
    }

    fn take_response_head(
        &mut self,
        status: u16,
        fields: &mut dyn Iterator<Item = (&[u8], &[u8])>,
    ) -> Outcome {
        let state = &mut self.scratch.state;
        state.response_status = status;
        for (name, value) in fields.take(FIELDS_MAX) {
            let name = state.values.buffers.push(name);
            let value = state.values.buffers.push(value);
            state.add(List::ResponseHeaders, name, value);
        }
        state.epoch += 1;
        self.run_phase(3)
    }

    /// Whether the response's body is wanted: by its type, and up to `SecResponseBodyLimit`.
    pub fn wants_response_body(&self) -> bool {
        if !self.response_body_access || self.engine == RuleEngine::Off || self.interruption.is_some() {
            return false;
        }
        let Some(content_type) = self.response_header(b"content-type") else {
            return false;
        };
        let mime = content_type.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        let types = &self.program.engine().response_body_mime_types;
        types.iter().any(|known| mime.eq_ignore_ascii_case(known.as_bytes()))
    }

    /// How many bytes of the response's body are inspected.
    pub fn response_body_limit(&self) -> usize {
        usize::try_from(self.program.engine().response_body_limit).unwrap_or(usize::MAX)
    }

    /// Takes the response's body and runs phase 4. `complete` is false when more came than was held.
    ///
    /// A compressed body is inspected as what it holds. `RESPONSE_HEADERS:Content-Encoding` is not there in phase 4 then,
    /// as the rules of phase 4 that look at it ask whether they can read the body.
    pub fn response_body(&mut self, body: Bytes, complete: bool) -> Outcome {
        self.stage(|transaction| transaction.take_response_body(body, complete))
    }

    fn take_response_body(&mut self, body: Bytes, complete: bool) -> Outcome {
        if self.wants_response_body() {
            let (body, complete) = self.readable_response(body, complete);
            let state = &mut self.scratch.state;
            state.flags.response_body_kept = true;
            state.flags.outbound_data_error = !complete;
            state.values.buffers.response = body;
            let rejects = self.program.engine().response_body_limit_action == LimitAction::Reject;
            if !complete && rejects {
                let stop = Interruption { rule: 0, status: 500, kind: InterruptionKind::Deny, phase: 4 };
                if self.engine == RuleEngine::On {
                    self.interruption.get_or_insert_with(|| stop.clone());
                    return Outcome::Interrupt(stop);
                }
                self.would_interrupt.get_or_insert(stop);
            }
        }
        self.scratch.state.epoch += 1;
        self.run_phase(4)
    }

    /// The body as it is inspected, and whether that is all of it. What cannot be decoded stays as it came.
    fn readable_response(&mut self, body: Bytes, complete: bool) -> (Bytes, bool) {
        let bytes_max = self.response_body_limit();
        let state = &self.scratch.state;
        let values = &state.values;
        let is_coding = |m: &Member| values.bytes(m.name).eq_ignore_ascii_case(b"content-encoding");
        let members = state.lists.get(List::ResponseHeaders as usize).map(Vec::as_slice).unwrap_or_default();
        let fields = members.iter().filter(|m| is_coding(m)).map(|m| values.bytes(m.value));
        let Ok(codings) = coding::codings(fields) else { return (body, complete) };
        if codings.is_empty() || body.is_empty() {
            return (body, complete);
        }
        let decoded = coding::decode(&body, &codings, Room::of(bytes_max));
        if decoded.body.is_empty() && decoded.end != End::Whole {
            return (body, complete);
        }
        self.decoded_bytes = self.decoded_bytes.saturating_add(decoded.body.capacity());
        let state = &mut self.scratch.state;
        let fits = !matches!(decoded.end, End::TooLarge | End::Bomb);
        let values = &state.values;
        let is_coding = |m: &Member| values.bytes(m.name).eq_ignore_ascii_case(b"content-encoding");
        if let Some(members) = state.lists.get_mut(List::ResponseHeaders as usize) {
            members.retain(|m| !is_coding(m));
        }
        (decoded.body.into(), complete && fits)
    }

    /// The first value of a response header field; the name in lower case.
    pub(crate) fn response_header(&self, name: &[u8]) -> Option<&[u8]> {
        let values = &self.scratch.state.values;
        let mut members = self.scratch.state.list(List::ResponseHeaders).iter();
        members.find(|m| values.bytes(m.name).eq_ignore_ascii_case(name)).map(|m| values.bytes(m.value))
    }
}

/// Response header fields that are looked at.
const FIELDS_MAX: usize = 256;
