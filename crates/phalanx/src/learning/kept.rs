//! What the learner keeps over a restart and an upgrade: what is usual, and incidents. Two files in the state folder, sealed like all that tells of
//! clients there, each replaced whole.
//!
//! Failure direction: open. What cannot be read is put aside with a line in the log, and learning begins anew; what cannot be written stays in memory
//! and is tried again. Nothing waits for the disk but the end of the node.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use anyhow::{Context, bail};
use phalanx_learn::{Baselines, Docket, Kept, Learner, NameKey};
use phalanx_trust::{Sealer, private_file};
use tokio::sync::watch;

use super::desk::Stats;
use super::peers::{Naming, Peers};
use super::tee::Tee;

/// Where it is kept.
pub(crate) struct Shelf {
    folder: PathBuf,
    sealer: Arc<Sealer>,
    /// Tells under which key names were hashed: with another one, what is usual is nobody's.
    names: u64,
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    Usual,
    Incidents,
}

impl Item {
    fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Incidents => "incidents",
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            Self::Usual => USUAL_BYTES_MAX,
            Self::Incidents => INCIDENTS_BYTES_MAX,
        }
    }
}

impl Shelf {
    pub(crate) fn new(folder: PathBuf, sealer: Arc<Sealer>, names: &NameKey) -> Self {
        Self { folder, sealer, names: names.hash("kept", b"usual") }
    }

    /// What was usual, if that is known.
    pub(super) fn usual(&self) -> Option<Baselines> {
        self.take(Item::Usual, |bytes| {
            let (names, bytes) = bytes.split_first_chunk::<8>()?;
            Some((u64::from_be_bytes(*names), Baselines::from_bytes(bytes)?))
        })
        .and_then(|(names, usual)| {
            let is_ours = names == self.names;
            if !is_ours {
                tracing::info!(
                    "what was usual was learned under another key of names, as before a node joins a fleet; it is learned anew"
                );
            }
            is_ours.then_some(usual)
        })
    }

    /// Incidents, as they were.
    pub(super) fn incidents(&self) -> Option<Kept> {
        self.take(Item::Incidents, Kept::from_bytes)
    }

    fn take<T>(&self, item: Item, read: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let taken = self.open(item).and_then(|plain| {
            plain.map(|plain| read(&plain).context("it is damaged, although it opens")).transpose()
        });
        taken.unwrap_or_else(|error| {
            let path = self.path(item);
            let aside = path.with_extension("refused");
            // What a newer version wrote is good for that one again.
            let kept = std::fs::rename(&path, &aside).is_ok();
            tracing::warn!(
                file = %path.display(), aside = %if kept { aside.display().to_string() } else { "nowhere".into() },
                error = format!("{error:#}"), "what was learned before was refused; learning begins anew"
            );
            None
        })
    }

    /// The bytes behind the header; none if there is no file.
    fn open(&self, item: Item) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(sealed) = private_file::read(&self.path(item), item.bytes_max())? else { return Ok(None) };
        let plain = self.sealer.open(&context(item), &sealed);
        let mut plain = plain.context("it is damaged, or of another node")?;
        match plain.first() {
            Some(&FORM) => {}
            Some(&form) if form > FORM => {
                bail!("a newer version of phalanx wrote it, in form {form}; this one reads {FORM}")
            }
            _ => bail!("it has no form that is known"),
        }
        plain.remove(0);
        Ok(Some(plain))
    }

    fn write(&self, item: Item, plain: &[u8]) -> anyhow::Result<()> {
        if plain.len() >= item.bytes_max() {
            bail!("{} is larger than {} MiB", item.name(), item.bytes_max() >> 20);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        Ok(private_file::replace(&self.path(item), &self.sealer.seal(&context(item), plain)?)?)
    }

    fn path(&self, item: Item) -> PathBuf {
        self.folder.join(item.name())
    }

    fn plain_usual(&self, usual: &Baselines) -> Vec<u8> {
        [&[FORM], &self.names.to_be_bytes()[..], &usual.to_bytes()].concat()
    }
}

/// Takes what is to be kept to the thread that writes it.
pub(super) struct Keeping {
    shelf: Arc<Shelf>,
    to: SyncSender<(Item, Vec<u8>)>,
    /// What the docket had come to when it was kept last.
    changes: u64,
    usual_ms: u64,
    incidents_ms: u64,
}

impl Keeping {
    /// Starts the thread. `ended` is dropped when all is written.
    pub(super) fn start(
        shelf: Arc<Shelf>,
        stats: Arc<Stats>,
        ended: watch::Sender<()>,
        now_ms: u64,
    ) -> anyhow::Result<Self> {
        let (to, from) = sync_channel(2);
        let writes = Arc::clone(&shelf);
        let thread = std::thread::Builder::new().name("phalanx-kept".into()).spawn(move || {
            write_all(&writes, &from, &stats);
            drop(ended);
        });
        thread.context("cannot start the thread that keeps what was learned")?;
        Ok(Self { shelf, to, changes: 0, usual_ms: now_ms, incidents_ms: now_ms })
    }

    /// Once a second: keeps what it is time for.
    pub(super) fn turn(
        &mut self,
        learner: &Learner,
        docket: &Docket,
        (peers, tee): (&Peers, &Tee),
        now_ms: u64,
    ) {
        let is_due = |since_ms: u64, every_ms| now_ms.saturating_sub(since_ms) >= every_ms;
        if docket.changes() != self.changes && is_due(self.incidents_ms, INCIDENTS_EVERY_MS) {
            // Whatever the disk is busy with, the next second is soon enough.
            if self.offer(Item::Incidents, || incidents(docket, (peers, tee), now_ms)) {
                (self.changes, self.incidents_ms) = (docket.changes(), now_ms);
            }
        }
        if is_due(self.usual_ms, USUAL_EVERY_MS) {
            let shelf = Arc::clone(&self.shelf);
            if self.offer(Item::Usual, || shelf.plain_usual(learner.baselines())) {
                self.usual_ms = now_ms;
            }
        }
    }

    /// Keeps all, before the node ends.
    pub(super) fn end(self, learner: &Learner, docket: &Docket, (peers, tee): (&Peers, &Tee), now_ms: u64) {
        // A thread that is gone keeps nothing more.
        if docket.changes() != self.changes {
            let _ = self.to.send((Item::Incidents, incidents(docket, (peers, tee), now_ms)));
        }
        let _ = self.to.send((Item::Usual, self.shelf.plain_usual(learner.baselines())));
    }

    fn offer(&self, item: Item, plain: impl FnOnce() -> Vec<u8>) -> bool {
        !matches!(self.to.try_send((item, plain())), Err(TrySendError::Full(_)))
    }
}

fn write_all(shelf: &Shelf, from: &Receiver<(Item, Vec<u8>)>, stats: &Stats) {
    for (item, plain) in from {
        let fault = shelf.write(item, &plain).err().map(|error| format!("{error:#}"));
        let mut known = stats.kept_fault.lock();
        match (&*known, &fault) {
            (None, Some(error)) => {
                tracing::warn!(what = item.name(), %error, "what was learned cannot be kept; it is tried again");
            }
            (Some(_), None) => tracing::info!("what was learned is kept again"),
            _ => {}
        }
        *known = fault;
    }
}

/// Incidents with names in place of this node's numbers.
fn incidents(docket: &Docket, (peers, tee): (&Peers, &Tee), now_ms: u64) -> Vec<u8> {
    let mut kept = docket.keep(now_ms.saturating_sub(CLOSED_FOR_MS));
    let mut naming = Naming::new(peers);
    for incident in kept.open.iter_mut().chain(&mut kept.closed) {
        incident.nodes = incident.nodes.iter().filter_map(|node| naming.place(*node)).collect();
        for (_, subject) in incident.findings.keys() {
            if let Some(name) = tee.name(subject.id) {
                kept.words.insert(subject.id, name);
            }
        }
    }
    kept.names = naming.names;
    [&[FORM], &kept.to_bytes()[..]].concat()
}

/// Goes on with incidents that were kept.
pub(super) fn recall(mut kept: Kept, docket: &mut Docket, (peers, tee): (&mut Peers, &Tee), now_ms: u64) {
    let numbers: Vec<Option<u16>> = kept
        .names
        .iter()
        .map(|name| {
            peers.admit(name);
            peers.number(name)
        })
        .collect();
    let number = |place: &u16| numbers.get(usize::from(*place)).copied().flatten();
    for incident in kept.open.iter_mut().chain(&mut kept.closed) {
        incident.nodes = incident.nodes.iter().filter_map(number).collect();
    }
    std::mem::take(&mut kept.words).into_iter().for_each(|(hash, name)| tee.recall(hash, name));
    docket.recall(kept, now_ms);
}

fn context(item: Item) -> String {
    format!("learned/{}", item.name())
}

/// The form of the files, their first byte once they are opened.
const FORM: u8 = 1;
/// What is usual of 512 apps and routes takes 10 MB.
const USUAL_BYTES_MAX: usize = 32 << 20;
/// 1,024 open incidents of the largest kind would take more; they are hardly ever a hundred.
const INCIDENTS_BYTES_MAX: usize = 64 << 20;
/// It moves slowly: what a power cut takes of it is not missed.
const USUAL_EVERY_MS: u64 = 300_000;
/// What a power cut takes of incidents at most.
const INCIDENTS_EVERY_MS: u64 = 5_000;
/// Closed incidents are kept for a week, as long as they are among the last 256.
const CLOSED_FOR_MS: u64 = 7 * 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_learn::event::SubjectKind;
    use phalanx_learn::{Detector, Signal, Subject};
    use phalanx_model::Confidence;

    fn shelf(folder: &std::path::Path) -> Shelf {
        Shelf::new(folder.join("learned"), Arc::new(Sealer::ephemeral().unwrap()), &NameKey::new([7; 16]))
    }

    fn docket() -> Docket {
        let mut docket = Docket::default();
        let signal = Signal {
            at_ms: 1_000,
            detector: Detector::Scanning,
            subject: Subject::new(SubjectKind::Route, 5),
            confidence: Confidence::High,
            decisive: true,
            reason: "looks".into(),
            events: 20,
            nodes: vec![Signal::OWN, 0],
            links: Vec::new(),
        };
        docket.add(&signal, None, 1_000);
        docket
    }

    #[test]
    fn incidents_come_back_with_the_names_of_nodes_and_routes() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path());
        assert!(shelf.incidents().is_none());
        let (mut peers, tee) = (Peers::new("fra/a".into()), Tee::default());
        peers.admit("fra/b");
        tee.recall(5, "shop/orders".into());
        shelf.write(Item::Incidents, &incidents(&docket(), (&peers, &tee), 2_000)).unwrap();
        // Numbers are others after a restart.
        let (mut peers, tee) = (Peers::new("fra/a".into()), Tee::default());
        peers.admit("fra/c");
        let mut docket = Docket::default();
        recall(shelf.incidents().unwrap(), &mut docket, (&mut peers, &tee), 2_000);
        let nodes: Vec<_> = docket.incidents().flat_map(|(one, _)| &one.nodes).collect();
        assert_eq!(
            nodes.into_iter().filter_map(|node| peers.name(*node)).collect::<Vec<_>>(),
            ["fra/b", "fra/a"]
        );
        assert_eq!(tee.name(5).as_deref(), Some("shop/orders"));
    }

    #[test]
    fn what_is_damaged_newer_or_of_another_key_is_refused_and_learning_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path());
        let plain = shelf.plain_usual(&Baselines::default());
        let path = shelf.path(Item::Usual);
        let refused = |write: &dyn Fn(), why: &str| {
            write();
            let said = match shelf.open(Item::Usual) {
                Err(error) => format!("{error:#}"),
                Ok(_) => String::new(),
            };
            assert!(said.contains(why), "{why} in {said}");
            assert!(shelf.usual().is_none());
            assert!(!path.exists() && path.with_extension("refused").exists(), "{why}");
        };
        let write = |plain: &[u8]| shelf.write(Item::Usual, plain).unwrap();
        refused(
            &|| write(&[&[FORM + 1], &plain[1..]].concat()),
            "a newer version of phalanx wrote it, in form 2",
        );
        refused(&|| write(&plain[..5]), "");
        refused(&|| write(&[&plain[..], &[0]].concat()), "");
        refused(
            &|| {
                write(&plain);
                let mut bytes = std::fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                std::fs::write(&path, bytes).unwrap();
            },
            "it is damaged, or of another node",
        );
        write(&plain);
        assert!(shelf.usual().is_some());
        let joined = Shelf { folder: shelf.folder.clone(), sealer: Arc::clone(&shelf.sealer), names: 1 };
        assert!(joined.usual().is_none() && path.exists(), "it is no fault to join a fleet");
    }

    #[test]
    fn a_disk_that_takes_nothing_is_told_and_survived() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Arc::new(shelf(folder.path()));
        let blocked = shelf.folder.join("incidents.new");
        std::fs::create_dir_all(blocked.join("x")).unwrap();
        let (stats, tee, peers) = (Arc::new(Stats::default()), Tee::default(), Peers::new("fra/a".into()));
        let learner = Learner::new(Default::default(), Default::default(), 1);
        let keep = |docket: &Docket| {
            let (ended, mut kept) = watch::channel(());
            let keeping = Keeping::start(Arc::clone(&shelf), Arc::clone(&stats), ended, 0).unwrap();
            keeping.end(&learner, docket, (&peers, &tee), 2_000);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            assert!(runtime.block_on(kept.changed()).is_err());
        };
        shelf.write(Item::Usual, b"before").unwrap();
        // The one after it finds room.
        let (to, from) = sync_channel(2);
        to.send((Item::Incidents, incidents(&docket(), (&peers, &tee), 2_000))).unwrap();
        drop(to);
        write_all(&shelf, &from, &stats);
        assert!(stats.kept_fault.lock().is_some() && shelf.incidents().is_none());
        std::fs::remove_dir_all(&blocked).unwrap();
        keep(&docket());
        assert!(stats.kept_fault.lock().is_none() && shelf.incidents().is_some() && shelf.usual().is_some());
    }
}
