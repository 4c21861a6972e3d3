//! What signals have in common, by which they become incidents.

use crate::detect::Detector;
use crate::event::{Event, Subject, SubjectKind};
use crate::sketch::{low32, mix};

/// What signals can have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entity(u64);

/// How much one has to do with a signal or an incident.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Which.
    pub entity: Entity,
    /// From 0 to 1.
    pub weight: f32,
}

impl Entity {
    /// A subject, as an entity.
    pub fn of(subject: Subject) -> Self {
        match subject.kind {
            SubjectKind::Address => Self::address_hash(low32(mix(subject.id))),
            _ => Self(subject.hash() | 1 << 63),
        }
    }

    /// An address of which only the hash is known.
    pub(crate) fn address_hash(hash: u32) -> Self {
        Self(u64::from(hash))
    }

    /// Whether it is an address.
    pub fn is_address(self) -> bool {
        self.address().is_some()
    }

    /// The hash of the address that it is, if it is one.
    pub(crate) fn address(self) -> Option<u32> {
        u32::try_from(self.0).ok()
    }

    /// One kind of attack on a route from one network.
    pub(crate) fn deed(detector: Detector, route: u64, network: u32) -> Self {
        let network = u64::from(network) << 8 | detector as u64;
        Self(mix(route ^ mix(network ^ 0xdeed << 40)) | 1 << 63)
    }

    /// The shape of a payload: it is itself, but for two bits, so that near ones can be told.
    fn of_shape(shape: u64) -> Self {
        Self(shape & SHAPE_BITS | 1 << 62)
    }

    /// The shape that it is, if it is one.
    pub(crate) fn shape(self) -> Option<u64> {
        (self.0 >> 62 == 1).then_some(self.0 & SHAPE_BITS)
    }

    /// As it is told, and read again.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

const SHAPE_BITS: u64 = (1 << 62) - 1;

impl Link {
    /// A subject's own link.
    pub(crate) fn of_subject(subject: Subject, is_rare: bool) -> Self {
        let weight = match subject.kind {
            SubjectKind::Session | SubjectKind::Secret => 1.0,
            SubjectKind::Account | SubjectKind::Address => 0.7,
            SubjectKind::Software if is_rare => 0.8,
            SubjectKind::Prefix | SubjectKind::System => 0.25,
            SubjectKind::Software => 0.1,
            SubjectKind::Route | SubjectKind::App => 0.1,
        };
        Self { entity: Entity::of(subject), weight }
    }

    /// What several nodes find of one subject is one thing.
    pub(crate) fn of_finding(detector: Detector, subject: Subject) -> Self {
        Self { entity: Entity(mix(subject.hash() ^ detector as u64) | 1 << 63), weight: 0.7 }
    }

    /// All links of a request that completed a signal about `subject`.
    pub(crate) fn of_event(event: &Event, subject: Subject, detector: Detector, is_rare: bool) -> Vec<Self> {
        let of = |kind, id| Self::of_subject(Subject::new(kind, id), is_rare);
        let mut links = vec![Self::of_subject(subject, is_rare)];
        links.push(Self::of_subject(Subject::address(event.ip), is_rare));
        links.push(Self::of_subject(Subject::prefix(event.ip), is_rare));
        links.extend(event.software.map(|id| of(SubjectKind::Software, id)));
        links.extend(event.session.map(|id| of(SubjectKind::Session, id)));
        links.push(of(SubjectKind::Route, event.route));
        if event.shape != 0 {
            links.push(Self { entity: Entity::of_shape(event.shape), weight: 0.3 });
        }
        // Who is refused comes back from elsewhere in the same network with other software, and does the same.
        links.push(Self { entity: Entity::deed(detector, event.route, event.network()), weight: 0.7 });
        links.push(Self::of_finding(detector, subject));
        // Of trouble, only where it is is looked at.
        if matches!(subject.kind, SubjectKind::Route | SubjectKind::App) {
            links.retain(|link| link.entity == Entity::of(subject));
            links.iter_mut().for_each(|link| link.weight = 0.8);
            // What befalls an app befalls its routes.
            let app = Subject::new(SubjectKind::App, event.app);
            links.push(Self { entity: Entity::of(app), weight: 0.8 });
        }
        links.sort_by(|a, b| a.entity.cmp(&b.entity).then(b.weight.total_cmp(&a.weight)));
        links.dedup_by_key(|link| link.entity);
        links
    }
}
