//! Operators on values.

use phalanx_model::limits::EXAMINED_BYTES_MAX;

use crate::operator;
use crate::pattern::{Captures, Flags, Pattern};
use crate::program::{Link, Matcher, Part, PatternId, Program, Rule, Slot, Test, TextTest, Verify};
use crate::transaction::Transaction;
use crate::transaction::state::TxValue;
use crate::transaction::values::{Blob, ValueId};

/// What an operator says of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    No,
    /// It matches, here.
    Yes(Blob),
    /// The pattern reached its limit; the transaction has failed.
    GaveUp,
}

impl Transaction {
    /// Puts a value to a link's operator, before negation.
    #[inline]
    pub(super) fn test(&mut self, program: &Program, rule: &Rule, link: &Link, value: ValueId) -> Answer {
        match &link.test {
            Test::Pattern(pattern) | Test::PatternGlobal(pattern) => {
                self.test_pattern(program, rule, *pattern, value)
            }
            test => self.test_other(program, rule, test, value),
        }
    }

    fn test_pattern(&mut self, program: &Program, rule: &Rule, id: PatternId, value: ValueId) -> Answer {
        let values = &mut self.scratch.state.values;
        if !values.may_match(program, value, id) {
            return Answer::No;
        }
        if self.is_exhausted(rule, value) {
            return Answer::GaveUp;
        }
        if self.scratch.state.values.is_in_vain(value, id) {
            return Answer::No;
        }
        let steps = &mut self.backtracks_left;
        let values = &mut self.scratch.state.values;
        let blob = values.blob(value);
        let bytes = values.bytes(value);
        let found = match program.matcher(id) {
            Some(Matcher::Phrases(automaton)) => {
                automaton.find(bytes).map(|found| (found.start(), found.end()))
            }
            Some(Matcher::Rx(pattern)) => match pattern.find_within(bytes, 0, steps) {
                Ok(found) => found,
                Err(error) => {
                    self.fail(rule, &error.to_string());
                    return Answer::GaveUp;
                }
            },
            Some(matcher) => {
                let holds = match matcher {
                    Matcher::Sqli => values.sqli(value),
                    Matcher::Xss => values.xss(value),
                    // Exact, because presence is.
                    Matcher::ByteRange(allowed) => {
                        let present = values.presence(value);
                        present.iter().zip(allowed).any(|(present, allowed)| present & !allowed != 0)
                    }
                    Matcher::UrlEncoding => operator::violates_url_encoding(bytes),
                    Matcher::Utf8 => operator::violates_utf8(bytes),
                    Matcher::Rx(_) | Matcher::Phrases(_) => false,
                };
                holds.then_some((0, blob.len as usize))
            }
            None => None,
        };
        if found.is_none() {
            self.scratch.state.values.keep_in_vain(value, id);
        }
        found.map_or(Answer::No, |(start, end)| Answer::Yes(blob.part(start, end)))
    }

    fn test_other(&mut self, program: &Program, rule: &Rule, test: &Test, value: ValueId) -> Answer {
        if !matches!(test, Test::Always | Test::Never) && self.is_exhausted(rule, value) {
            return Answer::GaveUp;
        }
        let values = &mut self.scratch.state.values;
        let blob = values.blob(value);
        let found = match test {
            Test::Always => true,
            Test::Never | Test::Pattern(_) | Test::PatternGlobal(_) => false,
            Test::Schema(schema) => schema.is_violated_by(values.bytes(value)),
            Test::IpMatch(prefixes) => {
                let text = std::str::from_utf8(values.bytes(value)).unwrap_or_default();
                text.trim().parse().is_ok_and(|ip| prefixes.contains(ip))
            }
            Test::Number(compare, text) => {
                let left = operator::number(values.bytes(value));
                let right = text.number.unwrap_or_else(|| {
                    let mut buffer = std::mem::take(&mut self.scratch.state.text);
                    buffer.clear();
                    self.expand(program, text, &mut buffer);
                    let number = operator::number(&buffer);
                    self.scratch.state.text = buffer;
                    number
                });
                compare.holds(left, right)
            }
            Test::Text(kind, text) => return self.test_text(program, (*kind, text), value),
            Test::PatternText(text) => return self.test_made_pattern(program, rule, text, value),
            Test::Verify(kind, pattern) => return self.test_verify(rule, *kind, pattern, value),
        };
        if found { Answer::Yes(blob) } else { Answer::No }
    }

    /// Counts a look at a value; true when the request has had all the looks it gets, which makes it one that fails.
    fn is_exhausted(&mut self, rule: &Rule, value: ValueId) -> bool {
        self.charge(rule, u64::from(self.scratch.state.values.blob(value).len))
    }

    fn charge(&mut self, rule: &Rule, bytes: u64) -> bool {
        self.examined_bytes = self.examined_bytes.saturating_add(bytes);
        if self.examined_bytes <= EXAMINED_BYTES_MAX {
            return false;
        }
        self.fail(rule, "the request takes more work than one may cause");
        true
    }

    fn test_text(
        &mut self,
        program: &Program,
        (kind, text): (TextTest, &crate::program::Text),
        value: ValueId,
    ) -> Answer {
        let mut buffer = std::mem::take(&mut self.scratch.state.text);
        buffer.clear();
        let holds = |input: &[u8], param: &[u8]| match kind {
            TextTest::BeginsWith => operator::begins_with(input, param),
            TextTest::Contains => operator::contains(input, param),
            TextTest::ContainsWord => operator::contains_word(input, param),
            TextTest::EndsWith => operator::ends_with(input, param),
            TextTest::Equal => operator::streq(input, param),
            TextTest::Within => operator::within(input, param),
        };
        let whole = match (text.constant, text.parts.as_slice()) {
            (None, [Part::Slot(slot)]) => match self.scratch.state.slot(*slot) {
                TxValue::Text { blob, .. } => Some(blob),
                TxValue::Unset | TxValue::Number(_) => None,
            },
            (constant, _) => constant,
        };
        let found = match whole {
            Some(constant) => {
                let values = &self.scratch.state.values;
                holds(values.bytes(value), values.buffers.bytes(constant))
            }
            None => {
                self.expand(program, text, &mut buffer);
                holds(self.scratch.state.values.bytes(value), &buffer)
            }
        };
        self.scratch.state.text = buffer;
        if found { Answer::Yes(self.scratch.state.values.blob(value)) } else { Answer::No }
    }

    /// `@rx` whose pattern has macros: compiled for this value. Rare, and bounded by the size limit of patterns.
    fn test_made_pattern(
        &mut self,
        program: &Program,
        rule: &Rule,
        text: &crate::program::Text,
        value: ValueId,
    ) -> Answer {
        let mut buffer = Vec::new();
        self.expand(program, text, &mut buffer);
        let Ok(regex) = std::str::from_utf8(&buffer) else {
            return Answer::No;
        };
        if regex.len() > MADE_PATTERN_BYTES_MAX {
            self.fail(rule, "the pattern made from variables is too long");
            return Answer::GaveUp;
        }
        self.examined_bytes = self.examined_bytes.saturating_add(regex.len() as u64 * MADE_PATTERN_BYTE_COST);
        if self.is_exhausted(rule, value) {
            return Answer::GaveUp;
        }
        let Ok(pattern) = Pattern::compile(regex, Flags::MODSECURITY) else {
            return Answer::No;
        };
        let blob = self.scratch.state.values.blob(value);
        match pattern.find_within(self.scratch.state.values.bytes(value), 0, &mut self.backtracks_left) {
            Ok(Some((start, end))) => Answer::Yes(blob.part(start, end)),
            Ok(None) => Answer::No,
            Err(error) => {
                self.fail(rule, &error.to_string());
                Answer::GaveUp
            }
        }
    }

    fn test_verify(&mut self, rule: &Rule, kind: Verify, pattern: &Pattern, value: ValueId) -> Answer {
        let blob = self.scratch.state.values.blob(value);
        let mut at = 0;
        loop {
            let bytes = self.scratch.state.values.bytes(value);
            let (start, end) = match pattern.find_within(bytes, at, &mut self.backtracks_left) {
                Ok(Some(found)) => found,
                Ok(None) => return Answer::No,
                Err(error) => {
                    self.fail(rule, &error.to_string());
                    return Answer::GaveUp;
                }
            };
            let candidate = bytes.get(start..end).unwrap_or_default();
            let holds = match kind {
                Verify::CreditCard => operator::is_credit_card(candidate),
                Verify::Cpf => operator::is_cpf(candidate),
                Verify::Ssn => operator::is_ssn(candidate),
                Verify::Svnr => operator::is_svnr(candidate),
            };
            if holds {
                return Answer::Yes(blob.part(start, end));
            }
            let last = start + 1 >= bytes.len();
            // Matches may overlap, so that a long value is looked at many times.
            let looked_at = u64::try_from(end.saturating_sub(at)).unwrap_or(u64::MAX);
            at = start + 1;
            if last {
                return Answer::No;
            }
            if self.charge(rule, looked_at) {
                return Answer::GaveUp;
            }
        }
    }

    /// `capture`: groups of the match to `TX:0` to `TX:9`; those it has not are unset.
    pub(super) fn capture(
        &mut self,
        program: &Program,
        rule: &Rule,
        link: &Link,
        value: ValueId,
        secret: bool,
    ) {
        let blob = self.scratch.state.values.blob(value);
        let mut groups = [None; 10];
        match &link.test {
            Test::Pattern(id) | Test::PatternGlobal(id) => match program.matcher(*id) {
                Some(Matcher::Rx(pattern)) => {
                    let global = matches!(link.test, Test::PatternGlobal(_));
                    if self.pattern_groups(pattern, value, global, &mut groups).is_err() {
                        self.fail(rule, "the pattern reached its backtracking limit");
                        return;
                    }
                }
                Some(Matcher::Phrases(_)) => self.latest_fragment(&mut groups),
                Some(Matcher::Sqli) => {
                    let found = crate::libinjection::is_sqli(self.scratch.state.values.bytes(value));
                    let text = found.map(|found| found.as_str().to_owned()).unwrap_or_default();
                    groups[0] = Some(self.scratch.state.values.buffers.push(text.as_bytes()));
                }
                Some(Matcher::Xss) => groups[0] = Some(blob),
                Some(Matcher::ByteRange(_) | Matcher::UrlEncoding | Matcher::Utf8) | None => return,
            },
            Test::PatternText(text) => {
                let mut regex = Vec::new();
                self.expand(program, text, &mut regex);
                let regex = String::from_utf8_lossy(&regex);
                if let Ok(pattern) = Pattern::compile(&regex, Flags::MODSECURITY) {
                    // A pattern that just matched within its limits does so again.
                    let _ = self.pattern_groups(&pattern, value, false, &mut groups);
                }
            }
            Test::Verify(..) => self.latest_fragment(&mut groups),
            _ => return,
        }
        for (number, group) in (0u16..).zip(groups) {
            let value = group.map_or(TxValue::Unset, |blob| TxValue::Text { blob, secret });
            self.set_slot(Slot(number), value);
        }
    }

    fn latest_fragment(&self, groups: &mut [Option<Blob>; 10]) {
        groups[0] = self.scratch.state.latest.map(|matched| matched.fragment);
    }

    fn pattern_groups(
        &mut self,
        pattern: &Pattern,
        value: ValueId,
        global: bool,
        groups: &mut [Option<Blob>; 10],
    ) -> Result<(), crate::pattern::LimitExceeded> {
        let values = &self.scratch.state.values;
        let (blob, bytes) = (values.blob(value), values.bytes(value));
        let steps = &mut self.backtracks_left;
        let mut captures = Captures::default();
        let mut at = 0;
        let mut next = 0;
        while pattern.captures_within(bytes, at, &mut captures, steps)? {
            for found in captures.groups.iter().take(captures.len.max(1)) {
                if let Some(place) = groups.get_mut(next) {
                    *place = found.map(|(start, end)| blob.part(start, end));
                    next += 1;
                }
            }
            let (start, end) = captures.groups[0].unwrap_or_default();
            at = if end > start { end } else { end + 1 };
            if !global || next >= groups.len() || at > bytes.len() {
                break;
            }
        }
        Ok(())
    }
}

/// Compiling a byte of a pattern takes as long as looking at so many bytes.
const MADE_PATTERN_BYTE_COST: u64 = 16 * 1024;
/// Longest pattern that may be made from variables, in bytes.
const MADE_PATTERN_BYTES_MAX: usize = 4096;
