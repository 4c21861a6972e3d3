//! `SecUnicodeMapFile`: code points beyond Latin-1 to the byte that a Windows code page folds them into.

use std::collections::BTreeMap;

/// Code point to byte, for `urlDecodeUni`.
#[derive(Debug, Clone, Default)]
pub struct UnicodeMap {
    /// One page per high byte of the code point, absent pages empty; an entry of 256 or more means "not mapped".
    pages: Vec<Option<Box<[u16; 256]>>>,
}

impl UnicodeMap {
    /// From the directive's parsed table. Code points above U+FFFF cannot occur in `%uHHHH` and are left out.
    pub fn new(table: &BTreeMap<u32, u8>) -> Self {
        let mut map = Self::default();
        if table.is_empty() {
            return map;
        }
        map.pages.resize_with(256, || None);
        for (&code, &byte) in table {
            let (high, low) = ((code >> 8) as usize, (code & 0xff) as usize);
            if let Some(page) = map.pages.get_mut(high) {
                let page = page.get_or_insert_with(|| Box::new([u16::MAX; 256]));
                if let Some(entry) = page.get_mut(low) {
                    *entry = u16::from(byte);
                }
            }
        }
        map
    }

    /// The byte that this code point folds into, if the table says.
    pub fn lookup(&self, code: u16) -> Option<u8> {
        let page = self.pages.get(usize::from(code >> 8))?.as_ref()?;
        page.get(usize::from(code & 0xff)).and_then(|&entry| u8::try_from(entry).ok())
    }
}
