//! Registers that are plain lists, searched whole: what the packed ones must agree with.

use super::*;

/// The same state as [`Registers`], without any thought of speed or memory.
pub(super) struct Model {
    decisions: Vec<Arc<Decision>>,
    withdrawals: Vec<Arc<Withdrawal>>,
    recalls: Recalls,
    lists: Listed,
    per_author_max: usize,
}

type Order = (u64, DecisionId, ActorKey, Option<u64>, Option<phalanx_model::DecisionKind>);

fn order(of: &Decision) -> Order {
    (of.expires_at_ms, of.id, of.actor.key(), of.actor.agent(), Some(of.kind))
}

fn order_of_withdrawal(of: &Withdrawal) -> Order {
    (of.expires_at_ms, of.id, of.actor.key(), of.actor.agent(), None)
}

fn value(of: &Decision) -> (u64, DecisionId, u64, u64, u8, &str) {
    (of.version, of.id, of.expires_at_ms, of.created_at_ms, of.confidence_percent, &of.reason)
}

fn is_ended(withdrawal: &Withdrawal, decision: &Decision) -> bool {
    let may = withdrawal.author.role == AuthorRole::Operator || withdrawal.author == decision.author;
    let about = withdrawal.actor.key() == decision.actor.key()
        && withdrawal.actor.covers_agent(decision.actor.agent());
    may && about && decision.version <= withdrawal.up_to_version
}

impl Model {
    pub(super) fn with_quota(per_author_max: usize) -> Self {
        let (decisions, withdrawals, recalls, lists) = Default::default();
        Self { decisions, withdrawals, recalls, lists, per_author_max }
    }

    pub(super) fn apply(&mut self, change: &Change, now_ms: u64) -> Outcome {
        if change.expires_at_ms() <= now_ms {
            return Outcome::Expired;
        }
        match change {
            Change::Decided(new) => self.decide(new),
            Change::Withdrawn(new) => self.withdraw(new),
            Change::Recalled(new) if !self.recalls.is_news(new) => Outcome::Known,
            Change::Recalled(new) => {
                let gone = self.recalls.put(new).into_iter().map(Change::Recalled).collect();
                self.without(gone, |decision| new.ends(decision))
            }
            Change::Listed(new) if !self.lists.is_news(new) => Outcome::Known,
            Change::Listed(new) => match self.lists.put(new) {
                Some(gone) if gone == *new => Outcome::OverQuota,
                gone => {
                    Outcome::Applied { gone: gone.into_iter().map(Change::Listed).collect(), touched: vec![] }
                }
            },
        }
    }

    pub(super) fn is_news(&self, change: &Change) -> bool {
        match change {
            Change::Decided(new) => {
                !self.is_over(new) && self.register(new).is_none_or(|old| value(new) > value(old))
            }
            Change::Withdrawn(new) => {
                self.tombstone(new).is_none_or(|old| withdrawal_rank(new) > withdrawal_rank(old))
            }
            Change::Recalled(new) => self.recalls.is_news(new),
            Change::Listed(new) => self.lists.is_news(new),
        }
    }

    pub(super) fn holds(&self, change: &Change) -> bool {
        match change {
            Change::Decided(of) => self.decisions.contains(of),
            Change::Withdrawn(of) => self.withdrawals.contains(of),
            Change::Recalled(of) => self.recalls.iter().any(|held| held == of),
            Change::Listed(of) => self.lists.iter().any(|held| held == of),
        }
    }

    pub(super) fn has_room_for(&self, change: &Change) -> bool {
        match change {
            Change::Decided(new) => self.register(new).is_some() || self.has_room(new),
            Change::Withdrawn(_) | Change::Recalled(_) | Change::Listed(_) => true,
        }
    }

    pub(super) fn sweep(&mut self, now_ms: u64) -> (Vec<Change>, Vec<ActorKey>) {
        let Outcome::Applied { mut gone, touched } =
            self.without(vec![], |decision| decision.expires_at_ms <= now_ms)
        else {
            panic!("it is applied")
        };
        let (over, stay) = self.withdrawals.drain(..).partition(|of| of.expires_at_ms <= now_ms);
        self.withdrawals = stay;
        let over: Vec<Arc<Withdrawal>> = over;
        gone.extend(over.into_iter().map(Change::Withdrawn));
        gone.extend(self.recalls.sweep(now_ms).into_iter().map(Change::Recalled));
        gone.extend(self.lists.sweep(now_ms).into_iter().map(Change::Listed));
        (gone, touched)
    }

    pub(super) fn expel(&mut self, site: &str, node: &str, above: u64) -> (Vec<Change>, Vec<ActorKey>) {
        let gone: Vec<Change> =
            self.written_by(site, node).into_iter().filter(|of| of.version() > above).collect();
        let mut touched = Vec::new();
        for change in &gone {
            match change {
                Change::Decided(of) => {
                    touched.push(of.actor.key());
                    self.decisions.retain(|held| held != of);
                }
                Change::Withdrawn(of) => self.withdrawals.retain(|held| held != of),
                Change::Recalled(of) => self.recalls.take(of),
                Change::Listed(of) => self.lists.take(of),
            }
        }
        (gone, touched)
    }

    pub(super) fn written_by(&self, site: &str, node: &str) -> Vec<Change> {
        let decisions = self.decisions.iter().cloned().map(Change::Decided);
        let withdrawals = self.withdrawals.iter().cloned().map(Change::Withdrawn);
        let recalls = self.recalls.iter().cloned().map(Change::Recalled);
        let all =
            decisions.chain(withdrawals).chain(recalls).chain(self.lists.iter().cloned().map(Change::Listed));
        all.filter(|of| (&*of.author().site, &*of.author().node) == (site, node)).collect()
    }

    pub(super) fn decisions_of(&self, key: &ActorKey) -> Vec<Arc<Decision>> {
        self.decisions.iter().filter(|of| of.actor.key() == *key).cloned().collect()
    }

    pub(super) fn withdrawn(&self) -> Vec<ActorKey> {
        let all = self.withdrawals.iter().filter(|of| of.actor.agent().is_none());
        all.map(|of| of.actor.key()).collect()
    }

    pub(super) fn forgiven_at_ms(&self, key: &ActorKey) -> Option<u64> {
        let by_operator = self.withdrawals.iter().filter(|of| {
            of.author.role == AuthorRole::Operator && of.actor.agent().is_none() && of.actor.key() == *key
        });
        by_operator.map(|of| of.created_at_ms).max()
    }

    pub(super) fn picture(&self) -> Vec<String> {
        let recalled = |list: &Blocklist| self.recalls.iter().any(|of| of.covers(&list.author, list.version));
        let mut lines: Vec<String> = self.decisions.iter().map(|of| format!("{of:?}")).collect();
        lines.extend(self.withdrawals.iter().map(|of| format!("{of:?}")));
        lines.extend(self.lists.iter().map(|list| format!("{list:?} {}", recalled(list))));
        lines.extend(self.recalls.iter().map(|recall| format!("{recall:?}")));
        lines.sort();
        lines
    }

    fn decide(&mut self, new: &Arc<Decision>) -> Outcome {
        if self.is_over(new) {
            return Outcome::Withdrawn;
        }
        let old = self.register(new).cloned();
        if old.as_ref().is_some_and(|old| value(new) <= value(old)) {
            return Outcome::Known;
        }
        if old.is_none() && !self.has_room(new) {
            return Outcome::OverQuota;
        }
        let (mut gone, mut touched) = (Vec::new(), vec![new.actor.key()]);
        if let Some(old) = old {
            self.decisions.retain(|held| *held != old);
            gone.push(Change::Decided(old));
        }
        self.decisions.push(Arc::clone(new));
        let own = || self.decisions.iter().filter(|of| of.author == new.author);
        let here = || own().filter(|of| of.actor.key() == new.actor.key());
        let first = |of: &mut dyn Iterator<Item = &Arc<Decision>>| of.min_by_key(|one| order(one)).cloned();
        let evicted = first(&mut own()).filter(|_| own().count() > self.per_author_max);
        let crowded = first(&mut here()).filter(|_| here().count() > PER_KEY_MAX);
        for victim in evicted.into_iter().chain(crowded) {
            touched.push(victim.actor.key());
            let before = self.decisions.len();
            self.decisions.retain(|held| *held != victim);
            gone.extend((self.decisions.len() < before).then_some(Change::Decided(victim)));
        }
        Outcome::Applied { gone, touched }
    }

    fn withdraw(&mut self, new: &Arc<Withdrawal>) -> Outcome {
        let old = self.tombstone(new).cloned();
        if old.as_ref().is_some_and(|old| withdrawal_rank(new) <= withdrawal_rank(old)) {
            return Outcome::Known;
        }
        let gone = old.iter().cloned().map(Change::Withdrawn).collect();
        self.withdrawals.retain(|held| Some(held) != old.as_ref());
        let Outcome::Applied { mut gone, .. } = self.without(gone, |decision| is_ended(new, decision)) else {
            panic!("it is applied")
        };
        self.withdrawals.push(Arc::clone(new));
        let own = || self.withdrawals.iter().filter(|of| of.author == new.author);
        let here = || own().filter(|of| of.actor.key() == new.actor.key());
        let evicted =
            own().min_by_key(|of| order_of_withdrawal(of)).filter(|_| own().count() > self.per_author_max);
        let crowded =
            here().min_by_key(|of| order_of_withdrawal(of)).filter(|_| here().count() > PER_KEY_MAX);
        let victims: Vec<_> = evicted.into_iter().chain(crowded).cloned().collect();
        for victim in victims {
            if self.withdrawals.contains(&victim) {
                self.withdrawals.retain(|held| *held != victim);
                gone.push(Change::Withdrawn(victim));
            }
        }
        Outcome::Applied { gone, touched: vec![new.actor.key()] }
    }

    /// Takes out what is over.
    fn without(&mut self, mut gone: Vec<Change>, is_over: impl Fn(&Decision) -> bool) -> Outcome {
        let (over, stay) = self.decisions.drain(..).partition(|decision| is_over(decision));
        self.decisions = stay;
        let over: Vec<Arc<Decision>> = over;
        let touched = over.iter().map(|decision| decision.actor.key()).collect();
        gone.extend(over.into_iter().map(Change::Decided));
        Outcome::Applied { gone, touched }
    }

    fn has_room(&self, new: &Decision) -> bool {
        let own = || self.decisions.iter().filter(|of| of.author == new.author);
        let here = || own().filter(|of| of.actor.key() == new.actor.key());
        let quota = own().count() < self.per_author_max || own().any(|of| order(of) < order(new));
        quota && (here().count() < PER_KEY_MAX || here().any(|of| order(of) < order(new)))
    }

    fn is_over(&self, decision: &Decision) -> bool {
        self.recalls.end(decision) || self.withdrawals.iter().any(|of| is_ended(of, decision))
    }

    fn register(&self, of: &Decision) -> Option<&Arc<Decision>> {
        self.decisions.iter().find(|held| held.actor.key() == of.actor.key() && same_register(held, of))
    }

    fn tombstone(&self, of: &Withdrawal) -> Option<&Arc<Withdrawal>> {
        let same = |held: &&Arc<Withdrawal>| {
            (held.actor.key(), held.actor.agent(), &held.author)
                == (of.actor.key(), of.actor.agent(), &of.author)
        };
        self.withdrawals.iter().find(same)
    }
}
