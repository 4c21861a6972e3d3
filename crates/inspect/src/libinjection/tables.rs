//! The words and fingerprints, read from the data files on first use.

use std::sync::LazyLock;

use hashbrown::{HashMap, HashSet};

use super::tokens::WORD_BYTES_MAX;

static WORDS: LazyLock<HashMap<&'static [u8], u8>> = LazyLock::new(|| {
    let mut words = HashMap::new();
    let mut kind = 0;
    for line in lines(include_str!("data/words.txt")) {
        match line.strip_prefix("@ ").map(str::as_bytes) {
            Some(&[letter]) => kind = letter,
            _ => words.extend(line.split('\t').map(|word| (word.as_bytes(), kind))),
        }
    }
    words
});

static FINGERPRINTS: LazyLock<HashSet<&'static [u8]>> = LazyLock::new(|| {
    lines(include_str!("data/fingerprints.txt")).flat_map(|line| line.split(' ')).map(str::as_bytes).collect()
});

/// Event names by their first letter.
static EVENTS: LazyLock<HashMap<u8, Vec<&'static [u8]>>> = LazyLock::new(|| {
    let mut events: HashMap<u8, Vec<&'static [u8]>> = HashMap::new();
    for name in lines(include_str!("data/events.txt")).flat_map(|line| line.split(' ')).map(str::as_bytes) {
        events.entry(name.first().copied().unwrap_or(0)).or_default().push(name);
    }
    events
});

/// The lines without the notice at the head of the file.
fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().skip_while(|line| line.starts_with('#')).filter(|line| !line.is_empty())
}

/// The token type of a word, phrase or operator, in any case; 0 when it has none.
pub(super) fn word_kind(word: &[u8]) -> u8 {
    let mut upper = [0; WORD_BYTES_MAX];
    let Some(upper) = upper.get_mut(..word.len()) else { return 0 };
    upper.copy_from_slice(word);
    upper.make_ascii_uppercase();
    WORDS.get(&*upper).copied().unwrap_or(0)
}

/// Whether a fingerprint, in any case, is that of an injection.
pub(super) fn is_injection(fingerprint: &[u8]) -> bool {
    let mut upper = [0; 5];
    let Some(upper) = upper.get_mut(..fingerprint.len()) else { return false };
    upper.copy_from_slice(fingerprint);
    upper.make_ascii_uppercase();
    FINGERPRINTS.contains(&*upper)
}

/// Event names that start with this letter, without "on", in upper case.
pub(super) fn events(first: u8) -> &'static [&'static [u8]] {
    EVENTS.get(&first.to_ascii_uppercase()).map(Vec::as_slice).unwrap_or_default()
}
