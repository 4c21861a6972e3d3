//! Reports that are sent by themselves: each day or week, to receivers of the settings, once for the fleet.
//!
//! Flow in names: [`Schedule`]s of the settings, and [`Deliveries`] of what was sent -> what is due -> a `Report` of the time that is over -> a
//! letter, or a message -> `Receiver`s -> [`Deliveries`], kept on the disk and told to all nodes.
//!
//! The node that runs playbooks sends. What was sent is written down for each receiver before the next one is told, so that a node that
//! starts again, or takes over, goes on where it stood. A report whose hour passed while no node could send is sent late, once, for the
//! latest time that is over.
//!
//! Failure direction: a report that could not be told is told again a few times, and then left at that and shown; nothing waits for it. Who
//! takes over before he has heard what was sent, or ends between sending and writing, sends again, under the same key.

pub mod deliveries;
pub mod schedule;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::api::{ReportLast, ReportScheduleRow, ReportSent, ReportTold};
use crate::auth::Principal;
use crate::handlers::report::{self, Wish};
use crate::receiver::NotTold;
use crate::receiver::mail::{Enclosed, Letter};
use crate::report::Report;
use crate::router::Control;
use deliveries::{Deliveries, Delivery, Due};
use schedule::{Form, Schedule};

/// What is to be sent, and what was.
pub struct Reporting {
    schedules: BTreeMap<String, Schedule>,
    deliveries: Mutex<Deliveries>,
    /// Whether this node sends.
    leads: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Reporting {
    /// By these schedules, with the deliveries of a file.
    pub fn open(
        schedules: BTreeMap<String, Schedule>,
        path: &Path,
        leads: Box<dyn Fn() -> bool + Send + Sync>,
    ) -> Self {
        Self { schedules, deliveries: Mutex::new(Deliveries::open(path)), leads }
    }

    /// What another node sent.
    pub fn adopt(&self, deliveries: Vec<Delivery>, now_ms: u64) {
        self.deliveries.lock().adopt(deliveries, now_ms);
    }

    /// What others are to know, if it changed, or if all is to be told.
    pub fn take_news(&self, all: bool) -> Option<Vec<Delivery>> {
        self.deliveries.lock().take_news(all)
    }

    /// Sentences for `status` about what could not be sent.
    pub fn degraded(&self) -> Vec<String> {
        let deliveries = self.deliveries.lock();
        let failed = self.schedules.keys().filter_map(|name| {
            let delivery = deliveries.of(name).filter(|delivery| delivery.is_given_up)?;
            let why = delivery.fault.as_deref().unwrap_or_default();
            Some(format!("the report `{name}` could not be sent: {why}"))
        });
        failed.chain(deliveries.fault()).collect()
    }

    /// Reports that were sent, and that could not be, since the node began.
    pub fn counts(&self) -> (u64, u64) {
        self.deliveries.lock().counts()
    }

    /// All schedules, with what is next and what was last.
    pub(crate) fn rows(&self, now_ms: u64) -> Vec<ReportScheduleRow> {
        let deliveries = self.deliveries.lock();
        let row = |(name, schedule): (&String, &Schedule)| {
            let delivery = deliveries.of(name).filter(|delivery| delivery.at_ms > 0);
            let last = delivery.map(|delivery| {
                let (from_ms, to_ms) = time_of(schedule, delivery);
                let state = match (delivery.is_over, delivery.is_given_up) {
                    (_, true) => "failed",
                    (true, false) => "sent",
                    (false, false) => "sending",
                };
                ReportLast {
                    state: state.to_owned(),
                    due_ms: delivery.due_ms,
                    from_ms,
                    to_ms,
                    at_ms: delivery.at_ms,
                    error: delivery.fault.clone(),
                }
            });
            ReportScheduleRow {
                name: name.clone(),
                when: schedule.words(),
                app: schedule.app.clone(),
                to: schedule.to.clone(),
                next_ms: schedule.due_after(now_ms),
                last,
            }
        };
        self.schedules.iter().map(row).collect()
    }

    pub(crate) fn schedule(&self, name: &str) -> Option<&Schedule> {
        self.schedules.get(name)
    }
}

/// Sends what is due, for as long as the API is there: each report by itself, so that none waits for the receivers of another.
pub(crate) async fn run(control: Weak<Control>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sending = BTreeMap::<String, JoinHandle<()>>::new();
    loop {
        looks.tick().await;
        let Some(control) = control.upgrade() else { return };
        let ended: Vec<String> =
            sending.iter().filter(|(_, sends)| sends.is_finished()).map(|(name, _)| name.clone()).collect();
        for name in ended {
            let Some(sends) = sending.remove(&name) else { continue };
            if let Err(error) = sends.await {
                tracing::error!(report = name, %error, "a report ended with an error of the program");
                end(&control, &name, Some("an error of the program ended it".to_owned()));
            }
        }
        if !(control.deps.reporting.leads)() {
            continue;
        }
        let reporting = &control.deps.reporting;
        for (name, schedule) in &reporting.schedules {
            if sending.contains_key(name) {
                continue;
            }
            let now_ms = control.now_ms();
            let begun = reporting.deliveries.lock().begin(name, schedule.due_before(now_ms), now_ms);
            if let Some(delivery) = begun {
                sending.insert(name.clone(), tokio::spawn(send_in_time(Arc::clone(&control), delivery)));
            }
        }
    }
}

async fn send_in_time(control: Arc<Control>, delivery: Delivery) {
    let name = delivery.name.clone();
    let Some(schedule) = control.deps.reporting.schedules.get(&name) else { return };
    if tokio::time::timeout(REPORT_MAX, send_due(&control, &name, schedule, delivery)).await.is_err() {
        end(&control, &name, Some(format!("it takes longer than {} minutes", REPORT_MAX.as_secs() / 60)));
    }
}

fn end(control: &Control, name: &str, fault: Option<String>) {
    let reporting = &control.deps.reporting;
    let Some(schedule) = reporting.schedules.get(name) else { return };
    let is_over = reporting.deliveries.lock().ended(name, &schedule.to, fault.clone(), control.now_ms());
    if let Some(why) = fault {
        tracing::warn!(report = name, %why, is_over, "a report could not be sent to all");
    }
}

/// Tells those who have not got it yet.
async fn send_due(control: &Control, name: &str, schedule: &Schedule, delivery: Delivery) {
    let reporting = &control.deps.reporting;
    let key = format!("report/{name}/{}", delivery.due_ms);
    let (made, mut fault) = match made(control, schedule, time_of(schedule, &delivery)).await {
        Ok(made) => (Some(made), None),
        Err(why) => (None, Some(why)),
    };
    let is_late = delivery.due_ms.saturating_add(LATE_MS) < control.now_ms();
    let message = made.map(|report| message(control, &key, (name, schedule), &report, is_late));
    let left: Vec<&String> = schedule.to.iter().filter(|to| !delivery.told.contains(to)).collect();
    for to in left {
        // Another node may have become the one that sends.
        if !(reporting.leads)() {
            return reporting.deliveries.lock().let_go(name);
        }
        let Some(message) = &message else { break };
        match tell(control, to, message).await {
            Ok(()) => reporting.deliveries.lock().told(name, to, control.now_ms()),
            Err(NotTold::Refused(why)) => {
                tracing::warn!(report = name, receiver = to, %why, "a receiver does not want a report");
                reporting.deliveries.lock().refused(name, to, &why, control.now_ms());
            }
            Err(why) => fault = Some(format!("{to}: {why}")),
        }
    }
    end(control, name, fault);
}

/// Sends the report of the latest time that is over to all its receivers, whatever was sent before. It counts for nothing.
pub(crate) async fn send_now(control: &Control, name: &str, schedule: &Schedule, wish: u64) -> ReportSent {
    let Due { from_ms, to_ms, .. } = schedule.due_before(control.now_ms());
    let report = match made(control, schedule, (from_ms, to_ms)).await {
        Ok(report) => report,
        Err(why) => {
            let failed = |to: &String| ReportTold { to: to.clone(), ok: false, error: Some(why.clone()) };
            return ReportSent { from_ms, to_ms, told: schedule.to.iter().map(failed).collect() };
        }
    };
    let mut told = Vec::new();
    let key = format!("report/{name}/test/{wish:016x}");
    let message = message(control, &key, (name, schedule), &report, false);
    for to in &schedule.to {
        let sent = tell(control, to, &message).await;
        let error = sent.err().map(|why| why.to_string());
        told.push(ReportTold { to: to.clone(), ok: error.is_none(), error });
    }
    ReportSent { from_ms, to_ms, told }
}

/// What a delivery is about: also after the settings said something else.
fn time_of(schedule: &Schedule, delivery: &Delivery) -> (u64, u64) {
    match delivery.to_ms {
        0 => schedule.time_before(delivery.due_ms),
        to_ms => (delivery.from_ms, to_ms),
    }
}

async fn made(
    control: &Control,
    schedule: &Schedule,
    (from_ms, to_ms): (u64, u64),
) -> Result<Report, String> {
    let wish = Wish {
        time: (from_ms, to_ms),
        compared_from_ms: schedule.compared_from(from_ms),
        is_over: true,
        zone: schedule.zone.clone(),
        app: schedule.app.clone(),
        fleet: true,
    };
    // As whoever has the node: it is his settings that say so.
    let made = report::made(control, &Principal::Socket, wish).await;
    made.map_err(|error| format!("it could not be made: {}", error.message()))
}

struct Message {
    key: String,
    body: Value,
    letter: Letter,
}

fn message(
    control: &Control,
    key: &str,
    (name, schedule): (&str, &Schedule),
    report: &Report,
    is_late: bool,
) -> Message {
    let node = format!("{}/{}", control.deps.site, control.deps.node);
    let of_time = report.time_words();
    let about = report.app.as_deref().map_or("all apps".to_owned(), |app| format!("app {app}"));
    let late = if is_late { ", sent late" } else { "" };
    let title = format!("Report {name}: {about}, {of_time}{late}");
    let text = format!("{title}\n\n{}", report.text());
    let enclosed = schedule.attach.iter().map(|form| {
        let (ending, kind, bytes) = match form {
            Form::Csv => ("csv", "text/csv", report.csv().into_bytes()),
            Form::Json => ("json", "application/json", json!(report).to_string().into_bytes()),
        };
        let day = schedule.zone.date(report.from_ms);
        Enclosed { name: format!("phalanx-{name}-{day}.{ending}"), kind, bytes }
    });
    let letter =
        Letter { subject: title, text: text.clone(), html: report.html(), enclosed: enclosed.collect() };
    let body = json!({
        "kind": "report",
        "key": key,
        "name": name,
        "text": text,
        "late": is_late,
        "report": report,
        "node": node,
        "at_ms": control.now_ms(),
    });
    Message { key: key.to_owned(), body, letter }
}

async fn tell(control: &Control, to: &str, message: &Message) -> Result<(), NotTold> {
    let Message { key, body, letter } = message;
    let Some(receiver) = control.deps.receivers.get(to) else {
        return Err(NotTold::Address(format!("this node's settings have no receiver `{to}`")));
    };
    receiver.send(key, body, letter, || control.now_ms()).await
}

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(5);
/// How long one attempt may take: as long as many mail servers that do not answer.
const REPORT_MAX: Duration = Duration::from_secs(20 * 60);
/// From then on a letter says that it is late.
const LATE_MS: u64 = 30 * 60_000;
