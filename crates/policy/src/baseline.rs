//! The rules that come with the product: the pack in `packs/baseline`, embedded.

/// Names and texts of the pack's files, in load order, for [`crate::seclang::load_texts`].
pub fn baseline() -> &'static [(&'static str, &'static str)] {
    FILES
}

const FILES: &[(&str, &str)] = &[];
