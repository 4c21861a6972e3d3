//! The rules that come with the product: the pack in `packs/baseline`, embedded.

/// Names and texts of the pack's files, in load order, for [`crate::seclang::load_texts`].
pub fn baseline() -> &'static [(&'static str, &'static str)] {
    FILES
}

const FILES: &[(&str, &str)] = &[
    ("baseline/10-protocol.conf", include_str!("../../../packs/baseline/rules/10-protocol.conf")),
    ("baseline/20-sql-injection.conf", include_str!("../../../packs/baseline/rules/20-sql-injection.conf")),
    (
        "baseline/30-cross-site-scripting.conf",
        include_str!("../../../packs/baseline/rules/30-cross-site-scripting.conf"),
    ),
    ("baseline/40-file-access.conf", include_str!("../../../packs/baseline/rules/40-file-access.conf")),
    (
        "baseline/50-command-injection.conf",
        include_str!("../../../packs/baseline/rules/50-command-injection.conf"),
    ),
    ("baseline/60-code-injection.conf", include_str!("../../../packs/baseline/rules/60-code-injection.conf")),
    (
        "baseline/70-server-side-requests.conf",
        include_str!("../../../packs/baseline/rules/70-server-side-requests.conf"),
    ),
    ("baseline/80-known-holes.conf", include_str!("../../../packs/baseline/rules/80-known-holes.conf")),
    ("baseline/90-scanners.conf", include_str!("../../../packs/baseline/rules/90-scanners.conf")),
];
