//! Macros: text with variables in it, for comparisons, for other variables and for the log.

use crate::findings::mask::masked;
use crate::program::{Part, Program, Slot, Text};
use crate::transaction::Transaction;
use crate::transaction::state::TxValue;
use crate::transaction::values::push_number;

impl Transaction {
    /// Appends the text with its variables' values. Returns whether any of it came from a secret.
    pub(crate) fn expand(&mut self, program: &Program, text: &Text, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let secret = text
            .parts
            .iter()
            .fold(false, |secret, part| self.expand_part(program, part, out, false) | secret);
        self.examined_bytes = self.examined_bytes.saturating_add((out.len() - before) as u64);
        secret
    }

    /// The text for the log: what came from a secret is replaced by its length.
    pub(crate) fn expand_for_log(&mut self, program: &Program, text: &Text) -> String {
        let mut out = Vec::with_capacity(USUAL_TEXT_BYTES);
        for part in &text.parts {
            self.expand_part(program, part, &mut out, true);
            if out.len() > LOG_TEXT_BYTES_MAX {
                out.truncate(LOG_TEXT_BYTES_MAX);
                break;
            }
        }
        String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    fn expand_part(&mut self, program: &Program, part: &Part, out: &mut Vec<u8>, for_log: bool) -> bool {
        match part {
            Part::Constant(blob) => {
                out.extend_from_slice(self.scratch.state.values.buffers.bytes(*blob));
                false
            }
            Part::Slot(slot) => self.expand_slot(*slot, out, for_log),
            Part::Variable(spec) => {
                let Some(entry) = self.first(program, spec) else {
                    return false;
                };
                let secret = entry.secret || self.is_secret(entry.name);
                let bytes = self.scratch.state.values.bytes(entry.value);
                match (secret, for_log) {
                    (true, true) => out.extend_from_slice(masked(bytes.len()).as_bytes()),
                    (false, true) => {
                        let shown = shown(bytes);
                        out.extend_from_slice(&self.without_secrets(entry.name, shown));
                    }
                    (_, false) => out.extend_from_slice(bytes),
                }
                secret
            }
        }
    }

    fn expand_slot(&self, slot: Slot, out: &mut Vec<u8>, for_log: bool) -> bool {
        match self.scratch.state.slot(slot) {
            TxValue::Unset => false,
            TxValue::Number(number) => {
                push_number(out, number);
                false
            }
            TxValue::Text { blob, secret } => {
                let bytes = self.scratch.state.values.buffers.bytes(blob);
                if secret && for_log {
                    out.extend_from_slice(masked(bytes.len()).as_bytes());
                } else if for_log {
                    out.extend_from_slice(&crate::findings::mask::mask_pairs(shown(bytes)));
                } else {
                    out.extend_from_slice(bytes);
                }
                secret
            }
        }
    }

    /// The expanded text.
    pub(crate) fn expanded(&mut self, program: &Program, text: &Text) -> Vec<u8> {
        let mut out = Vec::new();
        self.expand(program, text, &mut out);
        out
    }

    /// The expanded text as a number.
    pub(crate) fn expanded_number(&mut self, program: &Program, text: &Text) -> i64 {
        if let Some(number) = text.number {
            return number;
        }
        if let [Part::Slot(slot)] = text.parts.as_slice() {
            return self.slot_number(*slot);
        }
        crate::operator::number(&self.expanded(program, text))
    }
}

/// As much of a value as the log can hold. A secret whose end is cut off is masked like a whole one.
fn shown(bytes: &[u8]) -> &[u8] {
    bytes.get(..LOG_TEXT_BYTES_MAX).unwrap_or(bytes)
}

/// Longest message or data of a signal, in bytes.
const LOG_TEXT_BYTES_MAX: usize = 1024;

/// Most texts are shorter.
pub(super) const USUAL_TEXT_BYTES: usize = 128;
