//! A base as a stream of bytes: what a node keeps to start with. Reading it takes a pass over the records, which checks
//! them and finds their places; the streams themselves, and who may have written them, are the caller's business.

use std::io::{self, Read, Write};

use super::base::{Base, Texts};
use crate::{Author, AuthorRole};

/// Why a stream is no base that this version reads.
#[derive(Debug, thiserror::Error)]
pub enum PackedError {
    /// The stream failed, or ended too early.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is something else.
    #[error("it is no packed view")]
    Foreign,
    /// Another version wrote it.
    #[error("its schema is {0}, and this version reads {SCHEMA}")]
    Schema(u16),
    /// It contradicts itself.
    #[error("its content is damaged")]
    Damaged,
}

impl Base {
    /// Writes the base: `magic | schema | authors | reasons | blob`, lists and texts after their lengths.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&SCHEMA.to_le_bytes())?;
        out.write_all(&(self.authors.len() as u64).to_le_bytes())?;
        for author in &self.authors {
            out.write_all(&[u8::from(author.role == AuthorRole::Operator)])?;
            write_bytes(out, author.site.as_bytes())?;
            write_bytes(out, author.node.as_bytes())?;
        }
        out.write_all(&(self.reasons.ends.len() as u64).to_le_bytes())?;
        for end in &self.reasons.ends {
            out.write_all(&end.to_le_bytes())?;
        }
        write_bytes(out, &self.reasons.bytes)?;
        write_bytes(out, &self.blob)
    }

    /// Reads what [`Base::write_to`] wrote, to the stream's end.
    pub fn read_from(input: &mut impl Read) -> Result<Self, PackedError> {
        if read_array(input)? != *MAGIC {
            return Err(PackedError::Foreign);
        }
        let schema = u16::from_le_bytes(read_array(input)?);
        if schema != SCHEMA {
            return Err(PackedError::Schema(schema));
        }
        let mut authors = Vec::new();
        for _ in 0..u64::from_le_bytes(read_array(input)?) {
            let role = match read_array(input)? {
                [0] => AuthorRole::Node,
                [1] => AuthorRole::Operator,
                _ => return Err(PackedError::Damaged),
            };
            let (site, node) = (read_text(input)?, read_text(input)?);
            authors.push(Author { site: site.into(), node: node.into(), role });
        }
        let mut ends = Vec::new();
        for _ in 0..u64::from_le_bytes(read_array(input)?) {
            ends.push(u32::from_le_bytes(read_array(input)?));
        }
        let reasons = Texts { bytes: read_bytes(input)?, ends };
        let blob = read_bytes(input)?;
        if input.read(&mut [0])? != 0 {
            return Err(PackedError::Damaged);
        }
        Base::index(blob.into(), authors.into(), reasons).ok_or(PackedError::Damaged)
    }
}

fn write_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)
}

fn read_array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Takes memory for what is there, whatever length is claimed.
fn read_bytes(input: &mut impl Read) -> Result<Vec<u8>, PackedError> {
    let len = u64::from_le_bytes(read_array(input)?);
    let mut bytes = Vec::with_capacity(usize::try_from(len.min(RESERVED_BYTES_MAX)).unwrap_or_default());
    input.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == len { Ok(bytes) } else { Err(PackedError::Damaged) }
}

fn read_text(input: &mut impl Read) -> Result<String, PackedError> {
    String::from_utf8(read_bytes(input)?).map_err(|_| PackedError::Damaged)
}

const MAGIC: &[u8; 8] = b"phx view";
/// A file of another schema is set aside: everything in it is in the records too.
const SCHEMA: u16 = 1;
/// The blob of a million decisions; a larger one grows as it is read.
const RESERVED_BYTES_MAX: u64 = 64 * 1024 * 1024;
