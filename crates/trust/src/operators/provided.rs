//! Accounts of people whom an identity provider vouches for. The first login makes one; the provider says at each what it may do.
//!
//! INVARIANT: such an account is its issuer's and subject's for ever, at all nodes, whatever name the provider gives; and who was removed
//! or is kept out here stays out, whatever the provider says.

use super::account::{Account, Born, hex, id_of_subject};
use super::{Operator, OperatorFault, Operators, Role};
use crate::sha256;

/// Somebody as a provider tells of him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// The provider's name in the settings.
    pub provider: String,
    /// Its issuer.
    pub issuer: String,
    /// Who it is, as the issuer names him for ever.
    pub subject: String,
    /// What to call him, if he is new.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// The only apps that he may see and act on; all if there is none.
    pub apps: Vec<String>,
    /// On which node he gets in, as `SITE/NODE`.
    pub on: String,
}

impl Provided {
    /// His account's id: the same at all nodes.
    pub fn id(&self) -> String {
        id_of_subject(&self.hashed())
    }

    /// Who it is, hashed.
    fn hashed(&self) -> String {
        // The length keeps issuer and subject apart.
        hex(&sha256(format!("{} {} {}", self.issuer.len(), self.issuer, self.subject).as_bytes()))
    }
}

impl Operator {
    /// The provider that vouches for him; none of an account with credentials of its own.
    pub fn provider(&self) -> Option<&str> {
        self.created_by.strip_prefix(PROVIDER)
    }
}

impl Account {
    /// Whether he gets in, and may do what the provider says.
    fn is_provided_with(&self, who: &Provided) -> bool {
        !self.is_shut() && self.role.1 == who.role && self.apps.1 == who.apps
    }

    /// Whether its owner gets in by a provider, and in no other way.
    pub(super) fn is_provided(&self) -> bool {
        !self.born.subject.is_empty()
    }
}

impl Operators {
    /// The account of somebody whom a provider vouches for, with the rights that it says. Two nodes that meet him at once make one account.
    pub fn provide(&self, who: &Provided, now_ms: u64) -> Result<Operator, OperatorFault> {
        let born = Born {
            at_ms: now_ms,
            name: who.name.clone(),
            by: format!("{PROVIDER}{}", who.provider),
            on: who.on.clone(),
            salt: String::new(),
            subject: who.hashed(),
        };
        let id = born.id();
        // The lock must be given back before it is asked for again.
        let is_same = self.locked().accounts.get(&id).is_some_and(|known| known.is_provided_with(who));
        if is_same {
            return self.get(&id).ok_or(OperatorFault::Unknown);
        }
        self.write(|table| {
            table.accounts.retain(|_, account| !account.is_over(now_ms));
            let (role, apps) = (who.role, who.apps.clone());
            let full = table.is_full();
            match table.accounts.get_mut(&id) {
                Some(known) if known.removed || known.shut.is_out() => Err(OperatorFault::Shut),
                Some(known) => {
                    known.change(Some(role), Some(apps), None, self.here());
                    if known.is_small() { Ok(()) } else { Err(OperatorFault::TooMany) }
                }
                None if full => Err(OperatorFault::TooMany),
                // A name that another has is shown with a part of the id, as of two nodes that gave it before they met.
                None => {
                    table.accounts.insert(id.clone(), Account::new(id.clone(), born, role, apps));
                    Ok(())
                }
            }
        })?;
        self.get(&id).ok_or(OperatorFault::Unknown)
    }
}

/// Who adds accounts otherwise is named by what he is ("operator", "local socket"), and never so.
pub(super) const PROVIDER: &str = "provider ";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::operators::{By, NewOperator, OperatorChange};
    use crate::{PasswordHash, Sealer, TotpSecret, valid_name};

    fn node(dir: &tempfile::TempDir, name: &str) -> Operators {
        Operators::load(&dir.path().join(name), Arc::new(Sealer::ephemeral().unwrap())).unwrap()
    }

    fn carol(role: Role, apps: &[&str]) -> Provided {
        Provided {
            provider: "corp".into(),
            issuer: "https://id.example".into(),
            subject: "00u1".into(),
            name: "carol".into(),
            role,
            apps: apps.iter().map(|app| (*app).to_owned()).collect(),
            on: "fra/a".into(),
        }
    }

    #[test]
    fn one_subject_has_one_account_whatever_he_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let operators = node(&dir, "a");
        let first = operators.provide(&carol(Role::Viewer, &[]), 1).unwrap();
        assert_eq!((first.provider(), first.name.as_str()), (Some("corp"), "carol"));
        let renamed = Provided { name: "carola".into(), ..carol(Role::Viewer, &[]) };
        assert_eq!(operators.provide(&renamed, 2).unwrap(), first);
        let other = Provided { subject: "00u2".into(), ..carol(Role::Viewer, &[]) };
        let other = operators.provide(&other, 3).unwrap();
        assert_ne!(other.id, first.id);
        assert!(other.name.starts_with("carol-") && valid_name(&other.name), "{}", other.name);
    }

    #[test]
    fn each_login_brings_the_rights_and_ends_sessions_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let operators = node(&dir, "a");
        let first = operators.provide(&carol(Role::Editor, &[]), 1).unwrap();
        let same = operators.provide(&carol(Role::Editor, &[]), 2).unwrap();
        assert_eq!(same.generation, first.generation);
        let less = operators.provide(&carol(Role::Viewer, &["shop"]), 3).unwrap();
        assert_eq!((less.role, less.apps.as_slice()), (Role::Viewer, ["shop".to_owned()].as_slice()));
        assert_ne!(less.generation, first.generation);
    }

    #[test]
    fn who_was_shut_out_or_removed_here_stays_out() {
        let dir = tempfile::tempdir().unwrap();
        let operators = node(&dir, "a");
        let id = operators.provide(&carol(Role::Viewer, &[]), 1).unwrap().id;
        let out = |disabled| OperatorChange { disabled: Some(disabled), ..OperatorChange::default() };
        operators.change(&id, out(true), By::Operator).unwrap();
        assert!(matches!(operators.provide(&carol(Role::Owner, &[]), 2), Err(OperatorFault::Shut)));
        operators.change(&id, out(false), By::Operator).unwrap();
        assert!(operators.provide(&carol(Role::Viewer, &[]), 3).is_ok());
        operators.remove(&id, By::Operator, 4).unwrap();
        assert!(matches!(operators.provide(&carol(Role::Owner, &[]), 4), Err(OperatorFault::Shut)));
    }

    #[test]
    fn two_nodes_that_meet_him_at_once_make_one_account() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (node(&dir, "a"), node(&dir, "b"));
        a.provide(&carol(Role::Viewer, &[]), 10).unwrap();
        b.provide(&Provided { on: "fra/b".into(), ..carol(Role::Viewer, &[]) }, 9).unwrap();
        a.merge(b.accounts(20), 20);
        b.merge(a.accounts(20), 20);
        assert_eq!(a.list(), b.list());
        assert_eq!(a.list().len(), 1);
    }

    #[test]
    fn an_owner_by_a_provider_is_not_one_who_can_get_in_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let operators = node(&dir, "a");
        let carol = operators.provide(&carol(Role::Owner, &[]), 1).unwrap();
        let (name, by) = ("alice".to_owned(), "local socket".to_owned());
        let new = NewOperator { name, role: Role::Owner, apps: Vec::new(), by, on: String::new() };
        let alice = operators.add(new, 2).unwrap();
        assert_eq!(alice.provider(), None);
        let (hash, totp) = (PasswordHash::of("correct horse battery").unwrap(), TotpSecret::fresh());
        for whose in [&carol, &alice] {
            operators.set_password(whose, &hash, (&totp, 0)).unwrap();
        }
        let removed = operators.remove(&alice.id, By::Operator, 4);
        assert!(matches!(removed, Err(OperatorFault::LastOwner)), "{removed:?}");
    }
}
