//! Targets to values: which members a set of targets has in this transaction.

mod scalars;

use phalanx_policy::seclang::ir::Variable;

use crate::program::{Lifetime, Pick, PickId, Program, Select, Spec};
use crate::transaction::Transaction;
use crate::transaction::state::{Entry, Extent, List, Member, Name, PickCache, Tag, TxValue};
use crate::transaction::values::{ValueId, unite};

impl Transaction {
    /// The entries of a stable pick, resolved as seldom as can be; a range of `state.pick_entries`.
    #[inline]
    pub(crate) fn pick_entries(&mut self, program: &Program, id: PickId) -> (u32, u32) {
        let state = &self.scratch.state;
        let cached = state.pick_cache.get(id.0 as usize).copied().unwrap_or_default();
        if cached.epoch == state.epoch {
            return (cached.start, cached.end);
        }
        self.resolve_pick(program, id, cached)
    }

    fn resolve_pick(&mut self, program: &Program, id: PickId, cached: PickCache) -> (u32, u32) {
        let Some(pick) = program.pick(id) else {
            return (0, 0);
        };
        let epoch = self.scratch.state.epoch;
        let mut now = PickCache { epoch, ..cached };
        if cached.epoch == 0 || pick.lifetime != Lifetime::Transaction {
            let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let mut entries = std::mem::take(&mut self.scratch.state.pick_entries);
            now.start = narrow(entries.len());
            self.resolve(program, pick, &mut entries);
            now.end = narrow(entries.len());
            (now.extent, now.plain) = (None, None);
            self.scratch.state.pick_entries = entries;
        }
        if let Some(place) = self.scratch.state.pick_cache.get_mut(id.0 as usize) {
            *place = now;
        }
        (now.start, now.end)
    }

    /// The bytes and the greatest length of a pick's values.
    pub(crate) fn pick_extent(&mut self, id: PickId, (start, end): (u32, u32)) -> Extent {
        let state = &mut self.scratch.state;
        if let Some(PickCache { extent: Some(known), .. }) = state.pick_cache.get(id.0 as usize) {
            return *known;
        }
        let mut extent = Extent::default();
        for entry in state.pick_entries.get(start as usize..end as usize).unwrap_or_default() {
            let presence = state.values.presence(entry.value);
            unite(&mut extent.presence, &presence);
            match state.values.reshaped(entry.value) {
                Some(reshaped) => extent.reshaped.add(reshaped),
                None => unite(&mut extent.strange, &presence),
            }
            extent.length_max = extent.length_max.max(state.values.len(entry.value));
        }
        if let Some(cached) = state.pick_cache.get_mut(id.0 as usize) {
            cached.extent = Some(extent);
        }
        extent
    }

    /// Adds all entries of a pick.
    pub(crate) fn resolve(&mut self, program: &Program, pick: &Pick, out: &mut Vec<Entry>) {
        let spec = &pick.spec;
        let start = out.len();
        self.members(program, spec, out);
        if !pick.excludes.is_empty() {
            self.take_excluded(pick, start, out);
        }
        if spec.count {
            let count = out.len() - start;
            out.truncate(start);
            let value = self.scratch.state.values.intern_number(number_of(count));
            let key = self.count_key(program, spec);
            let name = Name { variable: spec.variable, key };
            out.push(Entry { name, value, secret: false });
        }
    }

    /// Takes the entries from `start` on that the pick excludes out of the list.
    fn take_excluded(&self, pick: &Pick, start: usize, out: &mut Vec<Entry>) {
        let values = &self.scratch.state.values;
        let mut kept = start;
        for at in start..out.len() {
            let Some(&entry) = out.get(at) else {
                continue;
            };
            if !pick.excludes(entry.name.key.map(|key| values.bytes(key)).unwrap_or_default()) {
                if let Some(place) = out.get_mut(kept) {
                    *place = entry;
                }
                kept += 1;
            }
        }
        out.truncate(kept);
    }

    /// A count is named like the members it counts.
    fn count_key(&mut self, program: &Program, spec: &Spec) -> Option<ValueId> {
        match &spec.select {
            Select::Key(key) => Some(self.scratch.state.values.intern_bytes(key)),
            Select::Slot(slot) => Some(self.scratch.state.values.intern(program.names.name(*slot))),
            _ => None,
        }
    }

    /// The first value that a spec selects.
    pub(crate) fn first(&mut self, program: &Program, spec: &Spec) -> Option<Entry> {
        let mut entries = Vec::new();
        self.members(program, spec, &mut entries);
        if spec.count {
            let value = self.scratch.state.values.intern_number(number_of(entries.len()));
            return Some(Entry { name: Name { variable: spec.variable, key: None }, value, secret: false });
        }
        entries.first().copied()
    }

    fn members(&mut self, program: &Program, spec: &Spec, out: &mut Vec<Entry>) {
        use Variable as V;
        let variable = spec.variable;
        match variable {
            V::Args => {
                self.list_values(List::ArgsGet, spec, out);
                self.list_values(List::ArgsPost, spec, out);
            }
            V::ArgsGet => self.list_values(List::ArgsGet, spec, out),
            V::ArgsPost => self.list_values(List::ArgsPost, spec, out),
            V::ArgsNames => {
                self.list_names(List::ArgsGet, spec, out);
                self.list_names(List::ArgsPost, spec, out);
            }
            V::ArgsGetNames => self.list_names(List::ArgsGet, spec, out),
            V::ArgsPostNames => self.list_names(List::ArgsPost, spec, out),
            V::RequestHeaders => self.list_values(List::RequestHeaders, spec, out),
            V::RequestHeadersNames => self.list_names(List::RequestHeaders, spec, out),
            V::RequestCookies => self.list_values(List::Cookies, spec, out),
            V::RequestCookiesNames => self.list_names(List::Cookies, spec, out),
            V::ResponseHeaders => self.list_values(List::ResponseHeaders, spec, out),
            V::ResponseHeadersNames => self.list_names(List::ResponseHeaders, spec, out),
            V::Files => self.list_values(List::Files, spec, out),
            V::FilesNames => self.list_names(List::Files, spec, out),
            V::FilesSizes => self.list_values(List::FilesSizes, spec, out),
            V::FilesTmpContent => self.list_values(List::FilesContent, spec, out),
            V::MultipartPartHeaders => self.list_values(List::PartHeaders, spec, out),
            V::MultipartName => self.list_values(List::PartNames, spec, out),
            V::MultipartFilename => self.list_values(List::PartFilenames, spec, out),
            V::Xml => {
                let list = if matches!(spec.select, Select::AllAttributes) {
                    List::XmlAttributes
                } else {
                    List::XmlText
                };
                self.list_values(list, spec, out);
            }
            V::Env => self.list_values(List::Env, spec, out),
            V::Tx => self.tx_members(program, spec, out),
            V::MatchedVars => self.matched_members(false, out),
            V::MatchedVarsNames => self.matched_members(true, out),
            V::Global | V::Ip | V::Session | V::User | V::Resource => self.persistent_members(spec, out),
            _ => {
                if let Some((value, secret)) = self.scalar(program, spec) {
                    let key = self.count_key(program, spec);
                    out.push(Entry { name: Name { variable, key }, value, secret });
                }
            }
        }
    }

    fn list_values(&self, list: List, spec: &Spec, out: &mut Vec<Entry>) {
        self.list_members(list, spec, |member| member.value, out);
    }

    fn list_names(&self, list: List, spec: &Spec, out: &mut Vec<Entry>) {
        self.list_members(list, spec, |member| member.name, out);
    }

    fn list_members(&self, list: List, spec: &Spec, value: fn(&Member) -> ValueId, out: &mut Vec<Entry>) {
        let state = &self.scratch.state;
        // Many specs name one header field each, and nearly all fields are others.
        let tag = match &spec.select {
            Select::Key(key) => Some(Tag::of(key)),
            _ => None,
        };
        let may_be = |member: &&Member| tag.is_none_or(|tag| tag == member.tag);
        for member in state.list(list).iter().filter(may_be) {
            if spec.selects(state.values.bytes(member.name)) {
                let name = Name { variable: spec.variable, key: Some(member.name) };
                out.push(Entry { name, value: value(member), secret: false });
            }
        }
    }

    fn tx_members(&mut self, program: &Program, spec: &Spec, out: &mut Vec<Entry>) {
        match &spec.select {
            Select::Slot(slot) => self.push_slot(program, *slot, out),
            Select::Regex(_, slots) => {
                for slot in slots {
                    self.push_slot(program, *slot, out);
                }
            }
            _ => {
                let slots = u16::try_from(self.scratch.state.slots.len()).unwrap_or(u16::MAX);
                for slot in 0..slots {
                    self.push_slot(program, crate::program::Slot(slot), out);
                }
            }
        }
        if matches!(spec.select, Select::Slot(_)) {
            return;
        }
        for at in 0..self.scratch.state.dynamic.len() {
            let Some(&(name, value)) = self.scratch.state.dynamic.get(at) else {
                continue;
            };
            if spec.selects(self.scratch.state.values.bytes(name))
                && let Some((value, secret)) = self.tx_value_id(value)
            {
                let name = Name { variable: Variable::Tx, key: Some(name) };
                out.push(Entry { name, value, secret });
            }
        }
    }

    fn push_slot(&mut self, program: &Program, slot: crate::program::Slot, out: &mut Vec<Entry>) {
        let value = self.scratch.state.slot(slot);
        if let Some((value, secret)) = self.tx_value_id(value) {
            let key = self.scratch.state.values.intern(program.names.name(slot));
            let name = Name { variable: Variable::Tx, key: Some(key) };
            out.push(Entry { name, value, secret });
        }
    }

    /// A TX value as an interned value.
    pub(crate) fn tx_value_id(&mut self, value: TxValue) -> Option<(ValueId, bool)> {
        let values = &mut self.scratch.state.values;
        match value {
            TxValue::Unset => None,
            TxValue::Number(number) => Some((values.intern_number(number), false)),
            TxValue::Text { blob, secret } => Some((values.intern(blob), secret)),
        }
    }

    fn matched_members(&mut self, names: bool, out: &mut Vec<Entry>) {
        let variable = if names { Variable::MatchedVarsNames } else { Variable::MatchedVars };
        for at in 0..self.scratch.state.matched.len() {
            let Some(&matched) = self.scratch.state.matched.get(at) else {
                continue;
            };
            // A member is known by the variable that first matched, however many links have looked at it since.
            let key = match matched.name {
                Name { variable: Variable::MatchedVars, key: Some(key) } => key,
                name => {
                    let full = self.name_text(name);
                    self.scratch.state.values.intern_bytes(&full)
                }
            };
            let (value, secret) = if names { (key, false) } else { (matched.value, matched.secret) };
            out.push(Entry { name: Name { variable, key: Some(key) }, value, secret });
        }
    }

    /// A variable's name as rules and logs write it: `ARGS:q`.
    pub(crate) fn name_text(&self, name: Name) -> Vec<u8> {
        let mut text = name.variable.name().as_bytes().to_vec();
        let key = name.key.map(|key| self.scratch.state.values.bytes(key)).unwrap_or_default();
        if !key.is_empty() {
            text.push(b':');
            text.extend_from_slice(key);
        }
        text
    }
}

fn number_of(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
