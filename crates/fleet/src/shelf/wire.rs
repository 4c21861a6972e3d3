//! What nodes say to each other of a shelf. Readers ignore fields that they do not know, so that a newer node can add some.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::items::Item;

/// What a node has, and the key to seal the rest to.
#[derive(Serialize, Deserialize)]
pub(super) struct Wanted {
    #[serde(with = "base64_bytes")]
    pub(super) key: Vec<u8>,
    #[serde(with = "base64_bytes")]
    pub(super) digest: Vec<u8>,
    /// It was given all there is.
    pub(super) in_step: bool,
    /// The version of the last record that it was given. Two states may have one digest, as after a secret was put there and taken away:
    /// only this tells them apart. Nodes of before do not say it.
    #[serde(default)]
    pub(super) given: Option<u64>,
}

impl Wanted {
    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|wanted: &Self| wanted.key.len() <= KEY_BYTES_MAX)
    }
}

/// What a node is given, sealed to it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Given {
    /// A secret.
    Put { name: String, item: Item },
    /// Which ones there are, by the hashes of their names; others are no more.
    All { names: Vec<u64> },
}

impl Given {
    pub(super) fn put(name: &str, item: &Item) -> Self {
        Self::Put { name: name.to_owned(), item: item.clone() }
    }

    pub(super) fn to_bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        serde_json::to_vec(self).ok().map(Zeroizing::new)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

mod base64_bytes {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

/// The same for a secret, which is overwritten when it is dropped.
pub(super) mod base64_secret {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(in super::super) fn serialize<S: Serializer>(
        bytes: &Zeroizing<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(BASE64.encode(bytes)))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Zeroizing<Vec<u8>>, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        BASE64.decode(text.as_bytes()).map(Zeroizing::new).map_err(serde::de::Error::custom)
    }
}

/// A key has 32; another kind, some day, more.
const KEY_BYTES_MAX: usize = 2_048;
