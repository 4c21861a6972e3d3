//! Every way in which two nodes can take, renew and lose one lease within a few moments, messages and acks late or lost: never do
//! both act at once, and who acts later has the higher token.

use std::collections::HashSet;

use super::claim;

const NODES: [&[u8]; 2] = [b"fra/a", b"fra/b"];
const TTL: u8 = 2;
const MOMENTS: u8 = 4;
const SEQUENCE_MAX: u8 = 3;
const IN_FLIGHT_MAX: usize = 2;

/// How the protocol is played: as it is, and with a mistake each.
#[derive(Debug, Clone, Copy)]
struct Rules {
    /// The holder's end is counted from before it asked, not from when it heard the answer.
    ends_before_asking: bool,
    /// The stream takes a message only if the last one is the one expected.
    compares: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct State {
    now: u8,
    /// The stream's last message: sequence, holder, when its time-to-live ends.
    last: Option<(u8, usize, u8)>,
    sequence: u8,
    nodes: [Node; 2],
    asking: Vec<Ask>,
    answers: Vec<Answer>,
    /// The token of the node that acted last, and which it was.
    acted: (u8, usize),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Node {
    /// What the last message must be for the claim that this node is about to make.
    read: Option<u8>,
    /// Token and end.
    lease: Option<(u8, u8)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Ask {
    from: usize,
    expected: u8,
    until: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Answer {
    to: usize,
    token: u8,
    until: u8,
}

impl State {
    fn next(&self, rules: Rules) -> Vec<Self> {
        let mut next = Vec::new();
        if self.now < MOMENTS {
            next.push(Self { now: self.now + 1, ..self.clone() });
        }
        // The server ends a message at its time or later, never sooner.
        if self.last.is_some_and(|(_, _, dies)| dies <= self.now) {
            next.push(Self { last: None, ..self.clone() });
        }
        for node in 0..NODES.len() {
            self.reads(node, &mut next);
            self.asks(node, &mut next);
        }
        for at in 0..self.asking.len() {
            self.arrives(at, rules, &mut next);
        }
        for at in 0..self.answers.len() {
            self.is_answered(at, rules, &mut next);
        }
        next
    }

    fn reads(&self, node: usize, next: &mut Vec<Self>) {
        let last = self.last.map(|(sequence, holder, _)| (u64::from(sequence), NODES[holder]));
        if let Some(expected) = claim(last, NODES[node]) {
            let mut state = self.clone();
            state.nodes[node].read = u8::try_from(expected).ok();
            next.push(state);
        }
    }

    fn asks(&self, node: usize, next: &mut Vec<Self>) {
        if let Some(expected) = self.nodes[node].read
            && self.asking.len() + self.answers.len() < IN_FLIGHT_MAX
        {
            let mut state = self.clone();
            state.nodes[node].read = None;
            state.asking.push(Ask { from: node, expected, until: self.now + TTL });
            state.asking.sort();
            next.push(state);
        }
    }

    /// A message reaches the stream, or is lost; and if it is stored the ack sets out, or is lost.
    fn arrives(&self, at: usize, rules: Rules, next: &mut Vec<Self>) {
        let mut state = self.clone();
        let ask = state.asking.remove(at);
        next.push(state.clone());
        let last = state.last.map_or(0, |(sequence, _, _)| sequence);
        if (rules.compares && ask.expected != last) || state.sequence == SEQUENCE_MAX {
            return;
        }
        state.sequence += 1;
        state.last = Some((state.sequence, ask.from, state.now + TTL));
        next.push(state.clone());
        if state.answers.len() < IN_FLIGHT_MAX {
            state.answers.push(Answer { to: ask.from, token: state.sequence, until: ask.until });
            state.answers.sort();
            next.push(state);
        }
    }

    fn is_answered(&self, at: usize, rules: Rules, next: &mut Vec<Self>) {
        let mut state = self.clone();
        let answer = state.answers.remove(at);
        let until = if rules.ends_before_asking { answer.until } else { state.now + TTL };
        state.nodes[answer.to].lease = Some((answer.token, until));
        if until > state.now {
            state.acted = state.acted.max((answer.token, answer.to));
        }
        next.push(state);
    }

    /// What makes no difference any more need not be told apart.
    fn forget_what_is_over(&mut self, rules: Rules) {
        let now = self.now;
        for node in &mut self.nodes {
            node.lease = node.lease.filter(|(_, until)| *until > now);
        }
        self.answers.retain(|answer| !rules.ends_before_asking || answer.until > now);
    }

    fn fault(&self, before: &Self) -> Option<&'static str> {
        let acts = |node: &Node| node.lease.is_some_and(|(_, until)| until > self.now);
        if self.nodes.iter().all(acts) {
            return Some("both act at once");
        }
        let news = (0..NODES.len()).find(|node| self.nodes[*node].lease != before.nodes[*node].lease);
        let (node, (token, until)) = (news?, self.nodes[news?].lease?);
        let (highest, by) = before.acted;
        (until > self.now && token <= highest && by != node).then_some("a token is not above those before it")
    }
}

/// Looks at every state that can be reached. The number of states, or the first fault.
fn explore(rules: Rules) -> Result<usize, String> {
    let mut seen: HashSet<State> = HashSet::from([State::default()]);
    let mut open = vec![State::default()];
    while let Some(state) = open.pop() {
        for mut next in state.next(rules) {
            next.forget_what_is_over(rules);
            if let Some(fault) = next.fault(&state) {
                return Err(format!("{fault}: {next:?}"));
            }
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn two_nodes_never_act_on_one_lease_at_once() {
    let states = explore(Rules { ends_before_asking: true, compares: true }).unwrap();
    println!("{states} states");
    assert!(states > 10_000, "{states}");
}

#[test]
fn each_half_of_the_protocol_is_needed() {
    for (ends_before_asking, compares) in [(false, true), (true, false)] {
        let fault = explore(Rules { ends_before_asking, compares }).unwrap_err();
        assert!(fault.starts_with("both act at once"), "{fault}");
    }
}
