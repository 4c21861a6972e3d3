//! Counts of all requests by minute and hour: what is asked of them, and how they are added up before they are written.
//!
//! Flow in names: `AccessEvent` -> `Tally` -> rows of the history's database -> `Traffic`.
//!
//! INVARIANT: in each bucket, every part by action, app, status or country adds up to the same number of requests. What has no row of its own
//! is counted under [`OTHERS`], never left out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use phalanx_model::limits::{
    TRAFFIC_HOURS_MAX, TRAFFIC_MINUTES_MAX, TRAFFIC_PENDING_MAX, TRAFFIC_POINTS_MAX, TRAFFIC_SERIES_MAX,
};
use phalanx_model::{AccessEvent, Action, Country, RuleClass, Signal};
use serde::{Deserialize, Serialize};

/// What the database of addresses says of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Located {
    /// Its country.
    pub country: Option<Country>,
    /// Its autonomous system.
    pub asn: Option<u32>,
}

/// Looks up where an address is. Called for each request on the recorder's thread, so it should not take longer than a microsecond.
pub type Locate = Arc<dyn Fn(IpAddr) -> Located + Send + Sync>;

/// By what requests are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// What was done with them.
    Action,
    /// The app.
    App,
    /// The rule that says most; requests without a finding are in no series.
    Rule,
    /// The class of that rule.
    Class,
    /// The country of the client.
    Country,
    /// The class of the status: `2xx`.
    Status,
    /// The node that served them.
    Node,
    /// The site of that node.
    Site,
}

/// A question about traffic. Its time is a whole number of steps; see [`TrafficQuery::new`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficQuery {
    /// From here on, in Unix milliseconds.
    pub from_ms: u64,
    /// Until here, exclusive.
    pub to_ms: u64,
    /// The time between two points.
    pub step_ms: u64,
    /// By what requests are counted apart.
    pub by: By,
    /// Only refused ones are in the series.
    pub refused: bool,
    /// Only requests for these apps; all without it.
    pub apps: Option<Vec<String>>,
    /// At most so many series; the rest is added up.
    pub series_max: usize,
}

impl TrafficQuery {
    /// The question about a time with at most about so many points. What is older than minutes are kept is answered in hours.
    pub fn new(from_ms: u64, to_ms: u64, points: usize, now_ms: u64, by: By) -> Self {
        let (_, step_ms) = unit_and_step(from_ms, to_ms, points, now_ms);
        let from_ms = from_ms / step_ms * step_ms;
        let to_ms = to_ms.div_ceil(step_ms).saturating_mul(step_ms).max(from_ms + step_ms);
        Self { from_ms, to_ms, step_ms, by, refused: false, apps: None, series_max: TRAFFIC_SERIES_MAX }
    }

    /// The same question, with steps counted from the beginning of the time. A report is about a day of its reader: it must not
    /// reach into the day before because a step does. The last step may be shorter: days of 23 and 25 hours have none that divides them.
    pub fn from_the_beginning(from_ms: u64, to_ms: u64, points: usize, now_ms: u64, by: By) -> Self {
        let (unit, step_ms) = unit_and_step(from_ms, to_ms, points, now_ms);
        let from_ms = from_ms / unit * unit;
        let to_ms = to_ms.div_ceil(unit).saturating_mul(unit).max(from_ms.saturating_add(unit));
        Self { from_ms, to_ms, step_ms, by, refused: false, apps: None, series_max: TRAFFIC_SERIES_MAX }
    }

    /// The same of a time that is over. Where it begins or ends within what is counted together, it does so earlier, so that of times
    /// that follow each other none has what is in another.
    pub fn of_period(from_ms: u64, to_ms: u64, points: usize, now_ms: u64, by: By) -> Self {
        let (unit, _) = unit_and_step(from_ms, to_ms, points, now_ms);
        Self::from_the_beginning(from_ms, to_ms / unit * unit, points, now_ms, by)
    }

    /// How many points there are; 0 of a question that nobody should answer.
    pub fn points(&self) -> usize {
        if self.step_ms == 0 || !self.step_ms.is_multiple_of(MINUTE_MS) {
            return 0;
        }
        let points = self.to_ms.saturating_sub(self.from_ms).div_ceil(self.step_ms);
        // One more than asked for, where neither end stood on a step.
        usize::try_from(points).ok().filter(|points| *points <= TRAFFIC_POINTS_MAX + 1).unwrap_or_default()
    }

    /// Which buckets answer it.
    pub(crate) fn bucket(&self) -> Bucket {
        // Steps of hours may begin at half past: zones do.
        let hours = [self.step_ms, self.from_ms, self.to_ms].iter().all(|ms| ms.is_multiple_of(HOUR_MS));
        if hours { Bucket::Hour } else { Bucket::Minute }
    }
}

/// What is counted together at least, and the step: a divisor of the day or whole days, so that each day has the same steps.
fn unit_and_step(from_ms: u64, to_ms: u64, points: usize, now_ms: u64) -> (u64, u64) {
    let minutes_from = now_ms.saturating_sub(TRAFFIC_MINUTES_MAX as u64 * MINUTE_MS);
    let unit = if from_ms < minutes_from { HOUR_MS } else { MINUTE_MS };
    let points = points.clamp(1, TRAFFIC_POINTS_MAX) as u64;
    let units = to_ms.saturating_sub(from_ms).max(1).div_ceil(points).div_ceil(unit);
    let day = 24 * HOUR_MS / unit;
    let units = (units..day).find(|units| day.is_multiple_of(*units));
    let days =
        || to_ms.saturating_sub(from_ms).div_ceil(points).div_ceil(24 * HOUR_MS).max(1).saturating_mul(day);
    (unit, units.unwrap_or_else(days).saturating_mul(unit))
}

/// Requests over time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Traffic {
    /// From here on, in Unix milliseconds.
    pub from_ms: u64,
    /// Until here, exclusive.
    pub to_ms: u64,
    /// The time between two points.
    pub step_ms: u64,
    /// All of that time.
    pub totals: TrafficTotals,
    /// The largest series, the largest first.
    pub series: Vec<TrafficSeries>,
    /// What has no series, added up.
    pub others: TrafficOthers,
    /// Since when there are counts, in Unix milliseconds; what is before is not nothing, but not known. None before the first request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins_ms: Option<u64>,
}

/// What became of the requests of a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrafficTotals {
    /// All that were recorded.
    pub requests: u64,
    /// Refused, or answered slowly and then refused.
    pub refused: u64,
    /// Asked for a proof.
    pub challenged: u64,
    /// Slowed down or told to come later.
    pub throttled: u64,
    /// Passed on, and would have been refused.
    pub observed: u64,
    /// Not refused, and answered with a status of 500 or more.
    pub errors: u64,
    /// Served, and not recorded for want of room: they are in no other number.
    pub dropped: u64,
}

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrafficSeries {
    /// Which: an action, app, rule, country, class, node or site.
    pub key: String,
    /// Of a rule: what it said last, on the node that is asked. May hold text from strangers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
    /// The sum of its points.
    pub total: u64,
    /// How many in each step.
    pub points: Vec<u64>,
}

/// Requests of all other kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrafficOthers {
    /// The sum of its points.
    pub total: u64,
    /// How many in each step.
    pub points: Vec<u64>,
}

impl Traffic {
    /// Nothing yet, of the time that is asked for.
    pub fn none(query: &TrafficQuery) -> Self {
        Self {
            from_ms: query.from_ms,
            to_ms: query.to_ms,
            step_ms: query.step_ms,
            others: TrafficOthers { total: 0, points: vec![0; query.points()] },
            ..Self::default()
        }
    }

    /// Adds what another node counted in the same time. False if it is about another time, and nothing is added.
    pub fn add(&mut self, other: &Self) -> bool {
        let same = |t: &Self| (t.from_ms, t.to_ms, t.step_ms, t.others.points.len());
        let whole = other.series.iter().all(|one| one.points.len() == other.others.points.len());
        if same(self) != same(other) || !whole {
            return false;
        }
        self.totals.add(&other.totals);
        for theirs in &other.series {
            match self.series.iter_mut().find(|own| own.key == theirs.key) {
                Some(own) => own.add(theirs),
                None => self.series.push(theirs.clone()),
            }
        }
        self.others.total = self.others.total.saturating_add(other.others.total);
        add_points(&mut self.others.points, &other.others.points);
        self.begins_ms = self.begins_ms.into_iter().chain(other.begins_ms).min();
        true
    }

    /// The largest series first, and no more than so many: the rest is added up.
    pub fn keep_largest(&mut self, series_max: usize) {
        self.series.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.key.cmp(&b.key)));
        let rest = self.series.split_off(series_max.min(self.series.len()));
        for one in rest {
            self.others.total = self.others.total.saturating_add(one.total);
            add_points(&mut self.others.points, &one.points);
        }
    }
}

impl TrafficTotals {
    /// Counts one row of the database, or a sum of such.
    pub(crate) fn count(&mut self, dimension: Dimension, value: i64, n: u64, refused: u64) {
        let add = |to: &mut u64, n: u64| *to = to.saturating_add(n);
        match (dimension, value) {
            (Dimension::Action, value) => {
                add(&mut self.requests, n);
                add(&mut self.refused, refused);
                match value {
                    1 => add(&mut self.observed, n),
                    2 => add(&mut self.challenged, n),
                    3 => add(&mut self.throttled, n),
                    _ => {}
                }
            }
            (Dimension::Status, 5) => add(&mut self.errors, n.saturating_sub(refused)),
            (Dimension::Dropped, _) => add(&mut self.dropped, n),
            _ => {}
        }
    }

    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.requests, other.requests),
            (&mut self.refused, other.refused),
            (&mut self.challenged, other.challenged),
            (&mut self.throttled, other.throttled),
            (&mut self.observed, other.observed),
            (&mut self.errors, other.errors),
            (&mut self.dropped, other.dropped),
        ];
        pairs.into_iter().for_each(|(own, theirs)| *own = own.saturating_add(theirs));
    }
}

impl TrafficSeries {
    fn add(&mut self, other: &Self) {
        self.total = self.total.saturating_add(other.total);
        add_points(&mut self.points, &other.points);
    }
}

fn add_points(own: &mut [u64], theirs: &[u64]) {
    own.iter_mut().zip(theirs).for_each(|(own, theirs)| *own = own.saturating_add(*theirs));
}

/// How long a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bucket {
    Minute,
    Hour,
}

impl Bucket {
    pub(crate) const ALL: [Self; 2] = [Self::Minute, Self::Hour];

    pub(crate) fn length_ms(self) -> u64 {
        match self {
            Self::Minute => MINUTE_MS,
            Self::Hour => HOUR_MS,
        }
    }

    /// Where a bucket of this length begins, in Unix milliseconds.
    pub(crate) fn begins_ms(self, at: i64) -> u64 {
        at.max(0).unsigned_abs().saturating_mul(self.length_ms())
    }

    /// How many are kept.
    pub(crate) fn kept(self) -> u64 {
        match self {
            Self::Minute => TRAFFIC_MINUTES_MAX as u64,
            Self::Hour => TRAFFIC_HOURS_MAX as u64,
        }
    }

    /// The number that stands for it in the database.
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Minute => 0,
            Self::Hour => 1,
        }
    }
}

/// By what rows of the database are counted apart; the app is in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dimension {
    Action,
    Status,
    Country,
    Rule,
    Class,
    /// Events that found no room in their lane; they have no app.
    Dropped,
}

impl Dimension {
    pub(crate) const ALL: [Self; 6] =
        [Self::Action, Self::Status, Self::Country, Self::Rule, Self::Class, Self::Dropped];

    /// The number that stands for it in the database.
    pub(crate) fn code(self) -> i64 {
        self as i64
    }

    /// What is counted apart where requests are asked for by something.
    pub(crate) fn of(by: By) -> Self {
        match by {
            By::Action | By::App | By::Node | By::Site => Self::Action,
            By::Status => Self::Status,
            By::Country => Self::Country,
            By::Rule => Self::Rule,
            By::Class => Self::Class,
        }
    }

    /// Whether it can have so many values that small ones are added up.
    pub(crate) fn is_wide(self) -> bool {
        matches!(self, Self::Country | Self::Rule)
    }
}

/// What a row counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) all: u64,
    pub(crate) refused: u64,
}

/// Counts that are not written yet. About a tenth of a microsecond for each of five additions; no request is waited for.
#[derive(Default)]
pub(crate) struct Tally {
    apps: Vec<Arc<str>>,
    places: HashMap<Arc<str>, usize>,
    counts: HashMap<TallyKey, Count>,
    /// Requests that found no room in here.
    lost: u64,
}

/// One row, apart from its app's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TallyKey {
    pub(crate) minute: u64,
    /// A place in `Tally::apps`; [`NO_APP`] for what has none.
    app: usize,
    pub(crate) dimension: Dimension,
    pub(crate) value: u64,
}

impl Tally {
    /// Counts one request; `top` is the finding that says most.
    pub(crate) fn add(&mut self, access: &AccessEvent, top: Option<&Signal>, country: Option<Country>) {
        if self.counts.len() >= TRAFFIC_PENDING_MAX {
            self.lost += 1;
            return;
        }
        let minute = access.at_ms / MINUTE_MS;
        let app = self.app(&access.app);
        let action = access.verdict.action;
        let refused = matches!(action, Action::Deny | Action::Tarpit);
        let mut add = |dimension, value| {
            let count = self.counts.entry(TallyKey { minute, app, dimension, value }).or_default();
            count.all += 1;
            count.refused += u64::from(refused);
        };
        add(Dimension::Action, action_value(action));
        add(Dimension::Status, u64::from(access.status / 100).min(STATUS_CLASSES - 1));
        add(Dimension::Country, country.map_or(UNKNOWN, country_value));
        if let Some(signal) = top {
            // What no rule found has the number 0.
            add(Dimension::Rule, signal.rule.id);
            add(Dimension::Class, signal.rule.class.index() as u64);
        }
    }

    /// Counts events that found no room in their lane.
    pub(crate) fn add_dropped(&mut self, events: u64, now_ms: u64) {
        let events = events + std::mem::take(&mut self.lost);
        if events > 0 {
            let key = TallyKey {
                minute: now_ms / MINUTE_MS,
                app: NO_APP,
                dimension: Dimension::Dropped,
                value: UNKNOWN,
            };
            self.counts.entry(key).or_default().all += events;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// What there is to write, with the app of each; none for what has no app.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&TallyKey, Option<&str>, Count)> {
        self.counts.iter().map(|(key, count)| (key, self.apps.get(key.app).map(|app| &**app), *count))
    }

    /// Forgets what was written.
    pub(crate) fn clear(&mut self) {
        self.counts.clear();
        self.apps.clear();
        self.places.clear();
    }

    fn app(&mut self, name: &Arc<str>) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = self.apps.len();
        self.apps.push(Arc::clone(name));
        self.places.insert(Arc::clone(name), place);
        place
    }
}

/// The number that stands for an action in the database.
pub(crate) fn action_value(action: Action) -> u64 {
    match action {
        Action::Allow => 0,
        Action::Observe => 1,
        Action::Challenge => 2,
        Action::Throttle => 3,
        Action::Tarpit => 4,
        Action::Deny => 5,
    }
}

/// The actions in the order of their numbers.
pub(crate) const ACTIONS: [Action; 6] =
    [Action::Allow, Action::Observe, Action::Challenge, Action::Throttle, Action::Tarpit, Action::Deny];

/// The name of a class of status.
fn status_name(value: u64) -> String {
    if value == 0 { String::from("none") } else { format!("{value}xx") }
}

/// The name of a class of rules.
fn class_name(value: u64) -> String {
    let class = usize::try_from(value).ok().and_then(|value| RuleClass::ALL.get(value).copied());
    class.map_or_else(
        || String::from("unknown"),
        |class| match class.confidence() {
            Some(confidence) => format!("{}_{}", class.name(), confidence.name()),
            None => class.name().to_owned(),
        },
    )
}

/// The name of a value that needs no database to be told.
pub(crate) fn value_name(by: By, value: i64) -> String {
    let value = value.cast_unsigned();
    match by {
        By::Action => {
            let action = usize::try_from(value).ok().and_then(|value| ACTIONS.get(value));
            action.map_or_else(|| String::from("unknown"), |action| action.as_str().to_owned())
        }
        By::Status => status_name(value),
        By::Class => class_name(value),
        By::Rule => value.to_string(),
        By::Country => {
            country_of(value).map_or_else(|| String::from("unknown"), |country| country.to_string())
        }
        By::App => String::from("unknown"),
        By::Node | By::Site => String::from("all"),
    }
}

pub(crate) fn country_value(country: Country) -> u64 {
    u64::from(u16::from_be_bytes(*country.as_bytes()))
}

/// The country of a number, if it is one.
pub(crate) fn country_of(value: u64) -> Option<Country> {
    Country::from_bytes(u16::try_from(value).ok()?.to_be_bytes()).ok()
}

/// What nothing is known of.
pub(crate) const UNKNOWN: u64 = 0;
/// What has no row of its own.
pub(crate) const OTHERS: i64 = -1;
const NO_APP: usize = usize::MAX;
/// No reply, and 1xx to 5xx.
const STATUS_CLASSES: u64 = 6;

pub(crate) const MINUTE_MS: u64 = 60_000;
pub(crate) const HOUR_MS: u64 = 60 * MINUTE_MS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_cut_into_whole_steps_that_hold_it() {
        let now = 1_785_585_637_123;
        let day = 24 * HOUR_MS;
        for (back, points, step_ms) in [
            (HOUR_MS, 60, MINUTE_MS),
            (HOUR_MS, 120, MINUTE_MS),
            (day, 120, 12 * MINUTE_MS),
            (day, 24, HOUR_MS),
            (7 * day, 120, 2 * HOUR_MS),
            (1, 1, MINUTE_MS),
        ] {
            let query = TrafficQuery::new(now - back, now, points, now, By::Action);
            assert_eq!(query.step_ms, step_ms, "{back} in {points}");
            assert!(query.from_ms <= now - back && query.to_ms >= now && query.points() <= points + 1);
            assert_eq!((query.from_ms % step_ms, query.to_ms % step_ms), (0, 0));
        }
        let longest = TrafficQuery::new(0, u64::MAX, usize::MAX, now, By::Rule);
        assert!((1..=TRAFFIC_POINTS_MAX + 1).contains(&longest.points()), "{longest:?}");
    }

    #[test]
    fn steps_divide_the_day_or_are_days() {
        let now = 1_785_585_637_123;
        for hours in 1..=24 * 90 {
            for points in [1, 7, 24, 96, 120] {
                let step_ms = TrafficQuery::new(now - hours * HOUR_MS, now, points, now, By::Action).step_ms;
                let day = 24 * HOUR_MS;
                assert!(
                    day.is_multiple_of(step_ms) || step_ms.is_multiple_of(day),
                    "{hours} hours in {points} points: {step_ms}"
                );
            }
        }
    }

    #[test]
    fn a_day_of_any_zone_is_that_day_and_nothing_of_the_next() {
        let midnight: i64 = 1_785_542_400_000;
        let day = 24 * HOUR_MS;
        // Minutes east of UTC: Berlin in winter and summer, Kolkata, Kathmandu, Newfoundland.
        for zone in [60, 120, 330, 345, -150] {
            let begin = (midnight - zone * 60_000).unsigned_abs();
            for length in [day, 23 * HOUR_MS, 25 * HOUR_MS] {
                let end = begin + length;
                let query = TrafficQuery::from_the_beginning(begin, end, 25, end, By::Action);
                assert_eq!((query.from_ms, query.to_ms, query.step_ms), (begin, end, HOUR_MS), "{zone}");
                let whole = begin.is_multiple_of(HOUR_MS);
                assert_eq!(query.bucket(), if whole { Bucket::Hour } else { Bucket::Minute }, "{zone}");
            }
        }
        let begin = 1_785_542_400_000 - HOUR_MS;
        let week = TrafficQuery::from_the_beginning(begin, begin + 7 * day, 96, begin + 7 * day, By::Action);
        assert_eq!((week.from_ms, week.to_ms, week.step_ms), (begin, begin + 7 * day, 2 * HOUR_MS));
        for length in [23 * HOUR_MS, 25 * HOUR_MS, 7 * day - HOUR_MS, 7 * day + HOUR_MS] {
            let end = begin + length;
            let query = TrafficQuery::from_the_beginning(begin, end, 96, end, By::Action);
            assert_eq!((query.from_ms, query.to_ms), (begin, end), "the last step is shorter");
        }
        let longest = TrafficQuery::from_the_beginning(0, u64::MAX, usize::MAX, begin, By::Rule);
        assert!((1..=TRAFFIC_POINTS_MAX + 1).contains(&longest.points()), "{longest:?}");
    }

    #[test]
    fn weeks_of_a_zone_at_half_past_follow_each_other_in_whole_hours() {
        let week = 7 * 24 * HOUR_MS;
        for minutes in [0, 15, 30, 45] {
            let begin = 1_785_542_400_000 + minutes * MINUTE_MS;
            let now = begin + 3 * week;
            let period = |from_ms| TrafficQuery::of_period(from_ms, from_ms + week, 96, now, By::Action);
            let (one, next) = (period(begin), period(begin + week));
            assert_eq!((one.from_ms, one.to_ms), (begin / HOUR_MS * HOUR_MS, next.from_ms), "{minutes}");
            assert_eq!(one.to_ms - one.from_ms, week);
        }
    }

    #[test]
    fn what_nodes_counted_adds_up_only_for_the_same_time() {
        let one = |key: &str, points: [u64; 2], others: [u64; 2]| Traffic {
            from_ms: 0,
            to_ms: 120_000,
            step_ms: 60_000,
            totals: TrafficTotals { requests: points.iter().chain(&others).sum(), ..Default::default() },
            series: vec![TrafficSeries {
                key: key.into(),
                words: None,
                total: points.iter().sum(),
                points: points.to_vec(),
            }],
            others: TrafficOthers { total: others.iter().sum(), points: others.to_vec() },
            begins_ms: others.first().copied(),
        };
        let mut sum = one("a", [1, 2], [0, 1]);
        assert!(sum.add(&one("a", [3, 0], [0, 0])) && sum.add(&one("b", [9, 0], [5, 0])));
        assert!(!sum.add(&Traffic { step_ms: 1, ..one("a", [1, 1], [0, 0]) }));
        sum.keep_largest(1);
        assert_eq!(sum.series.len(), 1);
        assert_eq!((sum.series[0].key.as_str(), sum.series[0].total), ("b", 9));
        assert_eq!(sum.others, TrafficOthers { total: 12, points: vec![9, 3] });
        assert_eq!(sum.totals.requests, sum.series[0].total + sum.others.total);
        assert_eq!(sum.begins_ms, Some(0), "the earliest of all");
    }
}
