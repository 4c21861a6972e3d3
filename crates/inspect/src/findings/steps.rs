//! What each transformation made of a value that matched. Worked out when the match is recorded: a request that matches
//! nothing pays nothing, and the values are in the memo already.

use phalanx_model::Step;
use phalanx_model::limits::{FRAGMENT_BYTES_MAX, STEP_TEXT_BYTES_MAX};

use super::mask::masked;
use super::truncated;
use crate::program::Program;
use crate::transaction::Transaction;
use crate::transaction::state::Matched;
use crate::transaction::values::ValueId;

/// The beginning of one form of a value.
struct Form {
    id: ValueId,
    text: String,
    /// Something in it was masked.
    masked: bool,
}

impl Transaction {
    /// The value as received, and after each step. A secret that is visible in one form is in all of them, though
    /// encoding may hide it from the mask there: forms in which nothing was masked are then left out.
    pub(super) fn steps(&mut self, program: &Program, matched: &Matched) -> (Option<String>, Vec<Step>) {
        let mut forms = vec![self.form(matched, matched.original)];
        let mut steps = Vec::new();
        let mut before = matched.original;
        for node in program.trie.path(matched.node) {
            let Some(step) = program.trie.node(node) else {
                continue;
            };
            let after = self.scratch.state.values.transformed(program, matched.original, node);
            if after != before {
                forms.push(self.form(matched, after));
            }
            steps.push((step.transformation.name().into(), after != before));
            before = after;
        }
        if forms.iter().any(|form| form.masked) {
            for form in forms.iter_mut().filter(|form| !form.masked) {
                form.text = masked(self.scratch.state.values.bytes(form.id).len());
            }
        }
        let mut forms = forms.into_iter();
        let value = forms.next().and_then(|form| self.kept(form));
        let steps = steps.into_iter().map(|(name, changed)| {
            let value = if changed { forms.next().and_then(|form| self.kept(form)) } else { None };
            Step { name, value, changed }
        });
        (value, steps.collect())
    }

    fn form(&self, matched: &Matched, id: ValueId) -> Form {
        let bytes = self.scratch.state.values.bytes(id);
        if matched.secret {
            return Form { id, text: masked(bytes.len()), masked: true };
        }
        // From the start, so that the mask sees the name before every value.
        let start = bytes.get(..FRAGMENT_BYTES_MAX).unwrap_or(bytes);
        let shown = self.without_secrets(matched.name, start);
        let text = String::from_utf8_lossy(&shown).into_owned();
        let text = if start.len() < bytes.len() || text.len() > FRAGMENT_BYTES_MAX {
            truncated(text, FRAGMENT_BYTES_MAX - ELLIPSIS.len()) + ELLIPSIS
        } else {
            text
        };
        Form { id, text, masked: *shown != *start }
    }

    /// The text, while there is room for it.
    fn kept(&mut self, form: Form) -> Option<String> {
        let state = &mut self.scratch.state;
        let total = state.step_text + form.text.len();
        if total > STEP_TEXT_BYTES_MAX {
            return None;
        }
        state.step_text = total;
        Some(form.text)
    }
}

/// Stands where a text was cut.
const ELLIPSIS: &str = "…";
