//! The ids that git gives to bytes, so that what a version of policy holds is compared with a commit without writing either anywhere.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// The id of bytes as a blob of a repository whose ids have so many hexadecimal digits: 40 or 64.
///
/// What is signed in a repository of 40 digits is bound by SHA-1, whatever we would like.
pub fn git_blob_id(bytes: &[u8], digits: usize) -> String {
    let mut context = Context::new(if digits == 64 { &SHA256 } else { &SHA1_FOR_LEGACY_USE_ONLY });
    context.update(format!("blob {}\0", bytes.len()).as_bytes());
    context.update(bytes);
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_git_gives() {
        assert_eq!(git_blob_id(b"hello\n", 40), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(
            git_blob_id(b"hello\n", 64),
            "2cf8d83d9ee29543b34a87727421fdecb7e3f3a183d337639025de576db9ebb4"
        );
    }
}
