//! What lies on a shelf: names and secrets, in order, with a digest by which two nodes see that they have the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::wire::base64_secret;
use crate::FleetError;
use crate::store::Kept;

/// A secret. No `Debug`: it would show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    #[serde(with = "base64_secret")]
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// When it is of no use any more, in Unix milliseconds.
    pub(super) expires_at_ms: u64,
}

/// Secrets by name.
#[derive(Default)]
pub(super) struct Items(BTreeMap<String, Item>);

impl Items {
    /// What a node kept. What cannot be read is as if it had never been there: it is asked for.
    pub(super) fn of_kept(records: Vec<Kept>) -> Self {
        let read = |kept: Kept| {
            let kept: KeptItem = serde_json::from_slice(&Zeroizing::new(kept.bytes)).ok()?;
            Some((kept.name, kept.item))
        };
        Self(records.into_iter().filter_map(read).take(ITEMS_MAX).collect())
    }

    pub(super) fn get(&self, name: &str, now_ms: u64) -> Option<&Zeroizing<Vec<u8>>> {
        self.0.get(name).filter(|item| now_ms < item.expires_at_ms).map(|item| &item.bytes)
    }

    /// Those in force whose names begin so.
    pub(super) fn all<'a>(
        &'a self,
        prefix: &'a str,
        now_ms: u64,
    ) -> impl Iterator<Item = (&'a str, &'a Zeroizing<Vec<u8>>)> {
        let from = self.0.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        let ours = from.take_while(move |(name, _)| name.starts_with(prefix));
        let counts = ours.filter(move |(_, item)| now_ms < item.expires_at_ms);
        counts.map(|(name, item)| (name.as_str(), &item.bytes))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.0.iter().map(|(name, item)| (name.as_str(), item))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn put(&mut self, name: &str, item: Item) -> Result<(), FleetError> {
        if item.bytes.len() > ITEM_BYTES_MAX || name.len() > NAME_BYTES_MAX {
            return Err(FleetError::Limit("a secret of the site is too large"));
        }
        if self.0.len() >= ITEMS_MAX && !self.0.contains_key(name) {
            return Err(FleetError::Limit("a site shares too many secrets"));
        }
        self.0.insert(name.to_owned(), item);
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Drops all but these; the names of those that are gone.
    pub(super) fn retain(&mut self, names: &[u64]) -> Vec<String> {
        let mut gone = Vec::new();
        self.0.retain(|name, _| {
            let stays = names.contains(&name_hash(name));
            if !stays {
                gone.push(name.clone());
            }
            stays
        });
        gone
    }

    /// Two shelves with the same digest hold the same.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut text = Vec::new();
        for (name, item) in &self.0 {
            text.extend_from_slice(&phalanx_trust::sha256(name.as_bytes()));
            text.extend_from_slice(&item.expires_at_ms.to_be_bytes());
            text.extend_from_slice(&phalanx_trust::sha256(&item.bytes));
        }
        phalanx_trust::sha256(&text)
    }
}

impl Item {
    /// As it is kept, to be sealed.
    pub(super) fn to_kept(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        let kept = KeptItem { name: name.to_owned(), item: self.clone() };
        serde_json::to_vec(&kept).ok().map(Zeroizing::new)
    }
}

#[derive(Serialize, Deserialize)]
struct KeptItem {
    name: String,
    #[serde(flatten)]
    item: Item,
}

/// What stands for a name where all of them are listed.
pub(super) fn name_hash(name: &str) -> u64 {
    let digest = phalanx_trust::sha256(name.as_bytes());
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// Secrets on one shelf: two for each of the certificates that a node may order, and room. Their list fits into one record.
const ITEMS_MAX: usize = 1_024;
/// Largest secret: in base64 twice, sealed and signed, it is smaller than the largest record.
const ITEM_BYTES_MAX: usize = 32 * 1024;
const NAME_BYTES_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: &[u8], expires_at_ms: u64) -> Item {
        Item { bytes: Zeroizing::new(bytes.to_vec()), expires_at_ms }
    }

    #[test]
    fn names_with_a_prefix_are_found_in_order_and_only_in_time() {
        let mut items = Items::default();
        for (name, ends) in [("b", 9), ("certificate b", 9), ("certificate a", 9), ("certificate c", 3)] {
            items.put(name, item(name.as_bytes(), ends)).unwrap();
        }
        let found: Vec<_> = items.all("certificate ", 3).map(|(name, _)| name).collect();
        assert_eq!(found, ["certificate a", "certificate b"]);
        assert!(items.get("certificate c", 2).is_some() && items.get("certificate c", 3).is_none());
        assert_eq!(items.retain(&[name_hash("b")]).len(), 3);
        assert_eq!(items.len(), 1);
    }

    #[test]
    fn a_digest_tells_of_names_terms_and_contents() {
        let of = |name: &str, bytes: &[u8], ends| {
            let mut items = Items::default();
            items.put(name, item(bytes, ends)).unwrap();
            items.digest()
        };
        let one = of("a", b"x", 1);
        assert_eq!(one, of("a", b"x", 1));
        for other in [of("b", b"x", 1), of("a", b"y", 1), of("a", b"x", 2), Items::default().digest()] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn what_is_kept_reads_back_and_limits_hold() {
        let kept = item(b"secret", 7).to_kept("name").unwrap();
        let record =
            Kept { subject: "s".into(), version: 1, expires_at_ms: 7, own: false, bytes: kept.to_vec() };
        let broken = Kept { bytes: b"{}".to_vec(), ..record.clone() };
        let items = Items::of_kept(vec![broken, record]);
        assert_eq!(items.get("name", 0).unwrap().as_slice(), b"secret");
        let mut items = Items::default();
        assert!(items.put("a", item(&vec![0; ITEM_BYTES_MAX + 1], 1)).is_err());
        assert!(items.put(&"a".repeat(301), item(b"", 1)).is_err());
    }
}
