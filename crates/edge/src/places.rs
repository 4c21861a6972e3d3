//! Where addresses are: their autonomous system, country and spot on the map, as database files say (MaxMind DB format, version 2).
//!
//! The files are the operator's and replaceable. What no file knows of an address is not known: decisions about systems and
//! countries then do not match it. A record that cannot be read is as good as none.

use std::fmt;
use std::net::IpAddr;

use maxminddb::{Reader, WithinOptions};
use phalanx_model::Country;
use phalanx_model::actor::{is_asn, parse_asn};
use serde::Deserialize;

/// The databases of a node; without any, nothing is known of any address.
#[derive(Default)]
pub struct Places {
    databases: Vec<(Reader<Vec<u8>>, Known)>,
    knows: Known,
}

/// What databases can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// Autonomous systems.
    pub asns: bool,
    /// Countries.
    pub countries: bool,
    /// Spots on the map, as databases of cities do.
    pub spots: bool,
}

/// What is known of an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Its autonomous system.
    pub asn: Option<u32>,
    /// Its country.
    pub country: Option<Country>,
}

/// Where on the map an address is: whole degrees, which is as much as such databases know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// North of the equator.
    pub latitude: i16,
    /// East of Greenwich.
    pub longitude: i16,
}

/// Why a file is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacesError {
    /// It is no such database, or a damaged one.
    #[error("it is no database in MaxMind's format: {0}")]
    Format(String),
    /// It says other things of addresses.
    #[error("it has neither countries nor AS numbers nor cities")]
    Useless,
}

impl Places {
    /// Adds a database, given its bytes. Where two know the same thing, the one added first is believed.
    pub fn add(&mut self, bytes: Vec<u8>) -> Result<Known, PlacesError> {
        let reader = Reader::from_source(bytes).map_err(|error| PlacesError::Format(error.to_string()))?;
        let mut knows = Known::default();
        let networks = reader
            .networks(WithinOptions::default())
            .map_err(|error| PlacesError::Format(error.to_string()))?;
        for network in networks.take(NETWORKS_TRIED) {
            let found = network.map_err(|error| PlacesError::Format(error.to_string()))?;
            let place =
                found.decode::<Record<'_>>().ok().flatten().map(|record| record.place()).unwrap_or_default();
            let spots = found.decode::<OnMap>().ok().flatten().and_then(|record| record.spot()).is_some();
            knows = knows.or(Known { asns: place.asn.is_some(), countries: place.country.is_some(), spots });
        }
        if knows == Known::default() {
            return Err(PlacesError::Useless);
        }
        self.knows = self.knows.or(knows);
        self.databases.push((reader, knows));
        Ok(knows)
    }

    /// What the databases can tell.
    pub fn knows(&self) -> Known {
        self.knows
    }

    /// What is known of an address.
    pub fn of(&self, ip: IpAddr) -> Place {
        let mut known = Place::default();
        for (database, _) in self.databases.iter().filter(|(_, knows)| knows.asns || knows.countries) {
            let found = database.lookup(ip).and_then(|found| found.decode::<Record<'_>>());
            let place = found.ok().flatten().map(|record| record.place()).unwrap_or_default();
            known.asn = known.asn.or(place.asn);
            known.country = known.country.or(place.country);
        }
        known
    }

    /// Where on the map an address is, if a database of cities says so and is sure within [`RADIUS_KM_MAX`]. A country alone is no spot:
    /// its middle may be farther from its people than two countries are from each other.
    pub fn spot_of(&self, ip: IpAddr) -> Option<Spot> {
        let mut databases = self.databases.iter().filter(|(_, knows)| knows.spots);
        databases.find_map(|(database, _)| database.lookup(ip).ok()?.decode::<OnMap>().ok()??.spot())
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").field("knows", &self.knows).finish_non_exhaustive()
    }
}

impl Known {
    fn or(self, other: Self) -> Self {
        Self {
            asns: self.asns || other.asns,
            countries: self.countries || other.countries,
            spots: self.spots || other.spots,
        }
    }
}

/// The fields of common databases: MaxMind's own, ip-location-db's and IPinfo's.
#[derive(Deserialize)]
struct Record<'a> {
    country_code: Option<&'a str>,
    #[serde(borrow)]
    country: Option<CountryField<'a>>,
    autonomous_system_number: Option<u32>,
    asn: Option<&'a str>,
}

/// A record of one country, or its name.
#[derive(Deserialize)]
#[serde(untagged)]
enum CountryField<'a> {
    Record {
        #[serde(borrow)]
        iso_code: Option<&'a str>,
    },
    Name(#[expect(dead_code, reason = "only tells the forms apart")] &'a str),
}

impl Record<'_> {
    fn place(&self) -> Place {
        let nested = match &self.country {
            Some(CountryField::Record { iso_code }) => *iso_code,
            Some(CountryField::Name(_)) | None => None,
        };
        let asn = self.autonomous_system_number.filter(|number| is_asn(*number));
        Place {
            asn: asn.or_else(|| parse_asn(self.asn?).ok()),
            country: self.country_code.or(nested).and_then(|letters| letters.parse().ok()),
        }
    }
}

/// The fields that say where on the map: those of MaxMind's and DB-IP's databases of cities, and ip-location-db's.
#[derive(Deserialize)]
struct OnMap {
    location: Option<Location>,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

#[derive(Deserialize)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
    accuracy_radius: Option<u16>,
}

impl OnMap {
    fn spot(&self) -> Option<Spot> {
        let (latitude, longitude) = match &self.location {
            Some(Location { accuracy_radius: Some(km), .. }) if *km > RADIUS_KM_MAX => return None,
            Some(Location { latitude, longitude, .. }) => (*latitude, *longitude),
            None => (self.latitude, self.longitude),
        };
        let spot = Spot { latitude: degrees(latitude?, 90.0)?, longitude: degrees(longitude?, 180.0)? };
        // Where nothing is known, some write zeros.
        (spot != Spot { latitude: 0, longitude: 0 }).then_some(spot)
    }
}

fn degrees(number: f64, most: f64) -> Option<i16> {
    #[expect(clippy::cast_possible_truncation, reason = "between -180 and 180")]
    let degrees = number.round() as i16;
    (number.abs() <= most).then_some(degrees)
}

/// What a database knows less well than this is not where a client is: a carrier's middle, a country's.
pub const RADIUS_KM_MAX: u16 = 200;
/// Networks looked at to find out what a database has.
const NETWORKS_TRIED: usize = 1_000;
