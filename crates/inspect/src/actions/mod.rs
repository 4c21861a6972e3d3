//! What links do when a value matches: variables, collections, `ctl`; and the expansion of macros.

use phalanx_model::limits::{EXAMINED_BYTES_MAX, VARIABLE_BYTES_MAX};
use phalanx_policy::seclang::ir::Variable;

use crate::collections::{self, Change};
use crate::program::{
    CtlEffect, Effect, Link, Part, Program, Rule, SetVarChange, Slot, Spec, Text, VarTarget,
};
use crate::transaction::Transaction;
use crate::transaction::state::{Entry, List, Name, TxValue};

mod macros;

impl Transaction {
    /// Performs one effect of a link.
    pub(crate) fn apply_effect(
        &mut self,
        program: &Program,
        rule: &Rule,
        link: &Link,
        place: usize,
        effect: &Effect,
    ) {
        match effect {
            Effect::SetVar(target, change) => self.set_var(program, target, change),
            Effect::ExpireVar(collection, key, seconds) => {
                let seconds = self.expanded_number(program, seconds);
                let at_ms = self
                    .connection
                    .now_ms
                    .saturating_add(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
                let key = self.expanded(program, key).to_ascii_lowercase();
                self.change_persistent(*collection, Change::Expire(key.into(), at_ms));
            }
            Effect::DeprecateVar(collection, key, amount, period_ms) => {
                let key = self.expanded(program, key).to_ascii_lowercase();
                let change = Change::Decay { name: key.into(), amount: *amount, period_ms: *period_ms };
                self.change_persistent(*collection, change);
            }
            Effect::InitCol(collection, key) => {
                let key = self.expanded(program, key);
                self.open_collection(program, *collection, &key);
            }
            Effect::SetEnv(text) => {
                let text = self.expanded(program, text);
                let split = text.iter().position(|&b| b == b'=').unwrap_or(text.len());
                let buffers = &mut self.scratch.state.values.buffers;
                let name = buffers.push(text.get(..split).unwrap_or_default());
                let value = buffers.push(text.get(split + 1..).unwrap_or_default());
                self.scratch.state.add(List::Env, name, value);
            }
            Effect::Ctl(ctl) => self.control(program, rule, link, place, ctl),
            Effect::SanitiseArg(name) => self.sanitise(Variable::Args, name),
            Effect::SanitiseRequestHeader(name) => self.sanitise(Variable::RequestHeaders, name),
            Effect::SanitiseResponseHeader(name) => self.sanitise(Variable::ResponseHeaders, name),
            Effect::SanitiseMatched => {
                if let Some(matched) = self.scratch.state.latest.as_mut() {
                    matched.secret = true;
                    let name = matched.name;
                    let key = name.key.map(|key| self.scratch.state.values.bytes(key).to_vec());
                    self.sanitise(name.variable, &key.unwrap_or_default());
                }
                if let Some(matched) = self.scratch.state.matched.last_mut() {
                    matched.secret = true;
                }
            }
        }
    }

    fn sanitise(&mut self, variable: Variable, name: &[u8]) {
        let variable = match variable {
            Variable::ArgsGet | Variable::ArgsPost => Variable::Args,
            other => other,
        };
        if self.scratch.state.sanitised.len() < SANITISED_MAX {
            self.scratch.state.sanitised.insert((variable, name.to_ascii_lowercase()));
        }
    }

    fn control(&mut self, program: &Program, rule: &Rule, link: &Link, place: usize, ctl: &CtlEffect) {
        match ctl {
            CtlEffect::RuleEngine(engine) => self.engine = *engine,
            CtlEffect::RequestBodyAccess(on) => self.request_body_access = *on,
            CtlEffect::ResponseBodyAccess(on) => self.response_body_access = *on,
            CtlEffect::ForceRequestBodyVariable(on) => self.force_request_body = *on,
            CtlEffect::RequestBodyProcessor(processor) => self.processor = Some(*processor),
            CtlEffect::ParseXmlIntoArgs(on) => self.xml_into_args = *on,
            CtlEffect::AuditEngine(engine) => self.audit.engine = *engine,
            CtlEffect::AuditParts(change) => self.audit.change(*change),
            CtlEffect::RuleRemove(rules) => self.leave_out(rules),
            CtlEffect::RuleRemoveTarget(..) => {
                let links = program.rules.get(self.scratch.state.rule as usize).unwrap_or(rule);
                let at = links.links.iter().position(|one| std::ptr::eq(one, link)).unwrap_or(0);
                let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let state = &mut self.scratch.state;
                let exclusion = (state.rule, narrow(at), narrow(place));
                if !state.exclusions.contains(&exclusion) {
                    state.exclusions.push(exclusion);
                }
            }
        }
    }

    fn set_var(&mut self, program: &Program, target: &VarTarget, change: &SetVarChange) {
        // Scores and counters are what rules add to. An observed match must not reach the rule that refuses at a sum.
        if matches!(change, SetVarChange::Add(_) | SetVarChange::Subtract(_)) && self.observes() {
            return;
        }
        match target {
            VarTarget::Slot(slot) => {
                let before = self.scratch.state.slot(*slot);
                let after = self.changed(program, before, change);
                self.count_score(program, *slot, before, after);
                self.set_slot(*slot, after);
            }
            VarTarget::Tx(name) => {
                let mut made = std::mem::take(&mut self.scratch.state.text);
                made.clear();
                self.expand(program, name, &mut made);
                made.make_ascii_lowercase();
                if let Some(slot) = program.names.find(&made) {
                    let after = self.changed(program, self.scratch.state.slot(slot), change);
                    self.set_slot(slot, after);
                } else {
                    self.set_dynamic(program, &made, change);
                }
                self.scratch.state.text = made;
            }
            VarTarget::Persistent(collection, name) => {
                let name = self.expanded(program, name).to_ascii_lowercase().into_boxed_slice();
                let change = match change {
                    SetVarChange::Set(text) => Change::Set(name, self.expanded(program, text)),
                    SetVarChange::Add(text) => Change::Add(name, self.expanded_number(program, text)),
                    SetVarChange::Subtract(text) => {
                        Change::Add(name, self.expanded_number(program, text).saturating_neg())
                    }
                    SetVarChange::Unset => Change::Unset(name),
                };
                self.change_persistent(*collection, change);
            }
        }
    }

    fn set_dynamic(&mut self, program: &Program, name: &[u8], change: &SetVarChange) {
        let name = self.scratch.state.values.intern_bytes(name);
        let state = &self.scratch.state;
        let place = state.dynamic_index.get(&name).copied();
        let before = place.and_then(|at| state.dynamic.get(at as usize)).map_or(TxValue::Unset, |one| one.1);
        let after = self.changed(program, before, change);
        let state = &mut self.scratch.state;
        if let Some(one) = place.and_then(|at| state.dynamic.get_mut(at as usize)) {
            one.1 = after;
        } else if state.dynamic.len() < DYNAMIC_MAX {
            let at = u32::try_from(state.dynamic.len()).unwrap_or(u32::MAX);
            state.dynamic.push((name, after));
            state.dynamic_index.insert(name, at);
        }
    }

    /// The value after a change.
    fn changed(&mut self, program: &Program, before: TxValue, change: &SetVarChange) -> TxValue {
        let number = |transaction: &Self| match before {
            TxValue::Unset => 0,
            TxValue::Number(number) => number,
            TxValue::Text { blob, .. } => {
                crate::operator::number(transaction.scratch.state.values.buffers.bytes(blob))
            }
        };
        match change {
            SetVarChange::Unset => TxValue::Unset,
            SetVarChange::Set(text) => self.tx_text(program, text),
            SetVarChange::Add(text) => {
                let by = self.expanded_number(program, text);
                TxValue::Number(number(self).saturating_add(by))
            }
            SetVarChange::Subtract(text) => {
                let by = self.expanded_number(program, text);
                TxValue::Number(number(self).saturating_sub(by))
            }
        }
    }

    /// A text as a TX value, without copying where it is constant or another variable's.
    fn tx_text(&mut self, program: &Program, text: &Text) -> TxValue {
        if let Some(number) = text.number {
            return TxValue::Number(number);
        }
        if let Some(blob) = text.constant {
            return TxValue::Text { blob, secret: false };
        }
        let empty = TxValue::Text { blob: crate::transaction::values::Blob::EMPTY, secret: false };
        match text.parts.as_slice() {
            [Part::Slot(slot)] => match self.scratch.state.slot(*slot) {
                TxValue::Unset => empty,
                value => value,
            },
            [Part::Variable(spec)] => match self.first(program, spec) {
                Some(entry) => {
                    let secret = entry.secret || self.is_secret(entry.name);
                    TxValue::Text { blob: self.scratch.state.values.blob(entry.value), secret }
                }
                None => empty,
            },
            _ => {
                let mut buffer = Vec::with_capacity(macros::USUAL_TEXT_BYTES);
                let secret = self.expand(program, text, &mut buffer);
                self.examined_bytes = self.examined_bytes.saturating_add(buffer.len() as u64 * COPY_COST);
                if buffer.len() > VARIABLE_BYTES_MAX || self.examined_bytes > EXAMINED_BYTES_MAX {
                    let reason = || "a rule puts more text together than a request may cause".to_owned();
                    self.failure.get_or_insert_with(reason);
                    return empty;
                }
                TxValue::Text { blob: self.scratch.state.values.buffers.push(&buffer), secret }
            }
        }
    }

    /// Sets a TX variable with a constant name.
    pub(crate) fn set_slot(&mut self, slot: Slot, value: TxValue) {
        if let Some(place) = self.scratch.state.slots.get_mut(usize::from(slot.0)) {
            *place = value;
        }
    }

    /// Notes what the rule that runs adds to an anomaly score.
    fn count_score(&mut self, program: &Program, slot: Slot, before: TxValue, after: TxValue) {
        let inbound = program.scores.inbound.contains(&slot);
        if !inbound && !program.scores.outbound.contains(&slot) {
            return;
        }
        let number = |value| if let TxValue::Number(number) = value { number } else { 0 };
        let added = number(after).saturating_sub(number(before)).max(0);
        let state = &mut self.scratch.state;
        state.rule_score = state.rule_score.saturating_add(added);
        if inbound {
            state.rule_inbound = state.rule_inbound.saturating_add(added);
        }
    }

    fn open_collection(&mut self, program: &Program, collection: Variable, key: &[u8]) {
        let state = &mut self.scratch.state;
        if !key.is_empty() && !state.persistent.iter().any(|view| view.collection == collection) {
            state.persistent.push(program.collections.open(collection, key, self.connection.now_ms));
        }
    }

    fn change_persistent(&mut self, collection: Variable, change: Change) {
        let state = &mut self.scratch.state;
        if let Some(view) = state.persistent.iter_mut().find(|view| view.collection == collection)
            && view.changes.len() < CHANGES_MAX
        {
            collections::apply(&mut view.variables, &change, self.connection.now_ms);
            view.changes.push(change);
        }
    }

    /// Writes what changed in persistent collections back to the store.
    pub(crate) fn store_collections(&mut self) {
        let timeout_ms = self.program.engine().collection_timeout_s.saturating_mul(1000);
        for view in &self.scratch.state.persistent {
            self.program.collections.close(view, self.connection.now_ms, timeout_ms);
        }
    }

    /// The key of a persistent collection that was opened.
    pub(crate) fn persistent_key(&self, collection: Variable) -> Option<String> {
        let view = self.scratch.state.persistent.iter().find(|view| view.collection == collection)?;
        Some(String::from_utf8_lossy(&view.key).into_owned())
    }

    /// Members of a persistent collection.
    pub(crate) fn persistent_members(&mut self, spec: &Spec, out: &mut Vec<Entry>) {
        let state = &mut self.scratch.state;
        let Some(view) = state.persistent.iter().find(|view| view.collection == spec.variable) else {
            return;
        };
        for variable in view.variables.iter().filter(|variable| spec.selects(&variable.name)) {
            let key = Some(state.values.intern_bytes(&variable.name));
            let value = state.values.intern_bytes(&variable.value);
            out.push(Entry { name: Name { variable: spec.variable, key }, value, secret: false });
        }
    }
}

/// A byte that is copied stays in memory until the request ends: it counts as much as so many that are looked at.
const COPY_COST: u64 = 16;
/// TX variables with names made at run time, per transaction: more than the most arguments of a request.
const DYNAMIC_MAX: usize = 8192;
/// Changes to one persistent collection, per transaction.
const CHANGES_MAX: usize = 1024;
/// Distinct names that `sanitise...` hides, per transaction: more than the most arguments of a request by default.
const SANITISED_MAX: usize = 4096;
