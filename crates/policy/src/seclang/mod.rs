//! SecLang, the rule language of ModSecurity, as the Core Rule Set uses it.
pub mod ir;
