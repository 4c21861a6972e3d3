//! Accounts of people whom an identity provider vouches for. The first login makes one; the provider says at each what it may do.
//!
//! INVARIANT: such an account is its issuer's and subject's for ever, at all nodes, whatever name the provider gives; and who was removed
//! or is kept out here stays out, whatever the provider says.

use phalanx_model::limits::OPERATORS_MAX;

use super::account::{Account, Born, hex, id_of_subject};
use super::{Accounts, Operator, OperatorFault, Operators, REMEMBERED_MAX, Role};
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
        hashed(&self.issuer, &self.subject)
    }
}

fn hashed(issuer: &str, subject: &str) -> String {
    // The length keeps issuer and subject apart.
    hex(&sha256(format!("{} {issuer} {subject}", issuer.len()).as_bytes()))
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
        let known = !self.born.subject.is_empty();
        known && !self.is_shut() && self.role.1 == who.role && self.apps.1 == who.apps
    }

    /// Whether its owner gets in by a provider, and in no other way.
    pub(super) fn is_provided(&self) -> bool {
        self.born.by.starts_with(PROVIDER)
    }
}

/// Looks at what another node tells of somebody of a provider. One of an older version drops of whom it is, which is made good where he is
/// known: so it can keep him out at this node. Removals are kept for ever, so that only so many are taken that are of nobody here.
pub(super) fn check(accounts: &Accounts, told: &mut Account) -> Result<(), &'static str> {
    if !told.is_provided() {
        return Ok(());
    }
    match accounts.get(&told.id) {
        Some(own) if !told.born.subject.is_empty() || own.is_provided() => {
            if told.born.subject.is_empty() {
                told.born = own.born.clone();
            }
            Ok(())
        }
        None if !told.born.subject.is_empty() => match told.removed && remembered(accounts) >= PROVIDED_MAX {
            true => Err("another node has more removals of people of providers than there is room for here"),
            false => Ok(()),
        },
        _ => Err(
            "another node is of an older version, and does not say who an account of a provider belongs to",
        ),
    }
}

/// People of providers, with those that were removed.
fn remembered(accounts: &Accounts) -> usize {
    accounts.values().filter(|account| account.is_provided()).count()
}

/// Whether no more of them may come: the rest is for accounts of the fleet, which get in when a provider is away.
fn is_full(accounts: &Accounts) -> bool {
    let there = accounts.values().filter(|account| account.is_provided() && !account.removed).count();
    there >= PROVIDED_HERE_MAX || remembered(accounts) >= PROVIDED_MAX
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
            let many = is_full(&table.accounts);
            table.accounts.retain(|_, account| !account.is_over(now_ms));
            let (role, apps) = (who.role, who.apps.clone());
            let full = table.is_full();
            match table.accounts.get_mut(&id) {
                Some(known) if known.removed || known.shut.is_out() => Err(OperatorFault::Shut),
                Some(known) => {
                    // As a node of an older version left it.
                    known.born.subject.clone_from(&born.subject);
                    known.change(Some(role), Some(apps), None, self.here());
                    if known.is_small() { Ok(()) } else { Err(OperatorFault::TooMany) }
                }
                None if full || many => Err(OperatorFault::TooMany),
                // A name that another has is shown with a part of the id, as of two nodes that gave it before they met.
                None => {
                    let account = Account::new(id.clone(), born, role, apps);
                    let small = account.is_small();
                    table.accounts.insert(id.clone(), account);
                    if small { Ok(()) } else { Err(OperatorFault::TooMany) }
                }
            }
        })?;
        self.get(&id).ok_or(OperatorFault::Unknown)
    }

    /// The provider gives somebody no rights any more: what he has is a viewer's until it does, and his sessions end at all nodes, because
    /// his account is another. Which that is, if he has one.
    pub fn withdraw(&self, issuer: &str, subject: &str) -> Result<Option<String>, OperatorFault> {
        let id = id_of_subject(&hashed(issuer, subject));
        if self.get(&id).is_none_or(|known| known.disabled) {
            return Ok(None);
        }
        self.change_one(&id, |account| {
            account.change(Some(Role::Viewer), None, None, self.here());
            Ok(())
        })?;
        Ok(Some(id))
    }
}

/// Who adds accounts otherwise is named by what he is ("operator", "local socket"), and never so.
pub(super) const PROVIDER: &str = "provider ";
/// People of providers who have accounts. The rest of all accounts is the fleet's own.
const PROVIDED_HERE_MAX: usize = OPERATORS_MAX * 3 / 4;
/// The same, with those that were removed: half of what is remembered.
const PROVIDED_MAX: usize = REMEMBERED_MAX / 2;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::operators::{By, NewOperator, OperatorChange, OperatorToken, RevokedNode};
    use crate::passkey::{MadePasskey, PasskeyPublic};
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

    /// As a node of a version without providers tells of it: of whom it is, it has dropped.
    fn as_of_before(told: Vec<Account>) -> Vec<Account> {
        let drop = |mut account: Account| {
            account.born.subject = String::new();
            Account::from_bytes(&account.to_bytes()).unwrap()
        };
        told.into_iter().map(drop).collect()
    }

    #[test]
    fn who_was_removed_stays_so_for_good_also_if_the_node_was_revoked_that_heard_it() {
        const LATER_MS: u64 = 1_000 * 24 * 60 * 60_000;
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (node(&dir, "a"), node(&dir, "b"));
        let id = b.provide(&carol(Role::Viewer, &[]), 1).unwrap().id;
        b.remove(&id, By::Operator, 2).unwrap();
        let told = b.accounts(3).into_iter().map(|one| one.told_by("fra/b", "its key")).collect();
        assert!(a.merge(told, 3).refused.is_empty());
        let (node, successors) = ("fra/b".to_owned(), Vec::new());
        a.heed(&[RevokedNode { node, up_to_ms: 5, successors, control: true, lapsing: false }]);
        for now_ms in [6, LATER_MS] {
            assert!(matches!(a.provide(&carol(Role::Owner, &[]), now_ms), Err(OperatorFault::Shut)));
        }
        assert_eq!(a.accounts(LATER_MS).len(), 1, "and others are told it");
    }

    #[test]
    fn a_node_of_an_older_version_keeps_out_and_removes_whom_it_knows_here() {
        let dir = tempfile::tempdir().unwrap();
        let (a, old) = (node(&dir, "a"), node(&dir, "old"));
        let new = a.provide(&carol(Role::Viewer, &[]), 1).unwrap();
        assert_eq!(
            old.merge(as_of_before(a.accounts(2)), 2).refused.len(),
            1,
            "of whom that is, nobody knows"
        );
        old.merge(a.accounts(2), 2);
        let out = OperatorChange { disabled: Some(true), ..OperatorChange::default() };
        old.change(&new.id, out, By::Operator).unwrap();
        assert!(a.merge(as_of_before(old.accounts(3)), 3).refused.is_empty());
        assert!(matches!(a.provide(&carol(Role::Viewer, &[]), 4), Err(OperatorFault::Shut)));
        old.remove(&new.id, By::Operator, 5).unwrap();
        assert!(a.merge(as_of_before(old.accounts(5)), 5).refused.is_empty());
        assert_eq!((a.list().len(), a.accounts(5)[0].id()), (0, new.id.as_str()));
    }

    #[test]
    fn nobody_makes_an_account_of_the_fleet_one_of_a_provider() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (node(&dir, "a"), node(&dir, "b"));
        let (name, by) = ("alice".to_owned(), "local socket".to_owned());
        a.add(NewOperator { name, role: Role::Owner, apps: Vec::new(), by, on: String::new() }, 2).unwrap();
        // As accounts of the first version are: their ids are random, and prove no birth.
        a.locked().accounts.values_mut().for_each(|one| one.born.salt = String::new());
        b.merge(a.accounts(3), 3);
        let forge = |mut one: Account| {
            (one.born.at_ms, one.born.by) = (0, "provider corp".to_owned());
            one
        };
        assert_eq!(b.merge(a.accounts(3).into_iter().map(forge).collect(), 3).refused.len(), 1);
        assert_eq!(b.list()[0].provider(), None);
    }

    #[test]
    fn people_of_providers_leave_room_for_accounts_of_the_fleet() {
        let dir = tempfile::tempdir().unwrap();
        let operators = node(&dir, "a");
        let nth = |n: usize| Provided { subject: n.to_string(), ..carol(Role::Viewer, &[]) };
        for n in 0..PROVIDED_HERE_MAX {
            operators.provide(&nth(n), 1).unwrap();
        }
        assert!(matches!(operators.provide(&nth(PROVIDED_HERE_MAX), 1), Err(OperatorFault::TooMany)));
        assert!(
            operators.provide(&Provided { role: Role::Editor, ..nth(0) }, 1).is_ok(),
            "who has one gets in"
        );
        let (name, by) = ("alice".to_owned(), "local socket".to_owned());
        operators
            .add(NewOperator { name, role: Role::Owner, apps: Vec::new(), by, on: String::new() }, 2)
            .unwrap();
        assert_eq!(PROVIDED_HERE_MAX, 96, "as the guide says");
    }

    #[test]
    fn removals_that_a_node_makes_up_take_no_more_than_their_room() {
        let gone = |n: usize| {
            let (hash, by) = (hashed("https://id.example", &n.to_string()), "provider corp".to_owned());
            let (name, on, salt) = ("gone".to_owned(), String::new(), String::new());
            let born = Born { at_ms: 1, name, by, on, salt, subject: hash };
            let mut account = Account::new(born.id(), born, Role::Viewer, Vec::new());
            account.remove(1);
            account
        };
        let dir = tempfile::tempdir().unwrap();
        let operators = node(&dir, "a");
        let told = (0..PROVIDED_MAX + 1).map(gone).collect();
        assert_eq!(operators.merge(told, 2).refused.len(), 1);
        assert_eq!(operators.accounts(2).len(), PROVIDED_MAX);
    }

    #[test]
    fn his_only_passkey_can_be_ended_and_no_token_acts_for_him() {
        let dir = tempfile::tempdir().unwrap();
        let operators = node(&dir, "a");
        let carol = operators.provide(&carol(Role::Owner, &[]), 1).unwrap();
        let made = MadePasskey { id: b"key".to_vec(), public: PasskeyPublic::EdDsa(vec![1; 32]), signed: 0 };
        let carol = operators.add_passkey(&carol, made, ("key".into(), "localhost".into()), 1).unwrap();
        let carol = operators.delete_passkey(&carol, &carol.passkeys[0].id).unwrap();
        assert!(carol.passkeys.is_empty());
        let (name, role, apps) = ("ci".to_owned(), Role::Viewer, Vec::new());
        let token = OperatorToken { name, role, apps, created_at_ms: 1, expires_at_ms: 1_000 };
        let token = operators.add_token(&carol, token).unwrap();
        assert!(operators.by_token(&token, 2).is_none());
    }

    #[test]
    fn whose_rights_are_withdrawn_is_a_viewer_whose_sessions_end() {
        let dir = tempfile::tempdir().unwrap();
        let operators = node(&dir, "a");
        assert_eq!(operators.withdraw("https://id.example", "00u1").unwrap(), None);
        let first = operators.provide(&carol(Role::Owner, &["shop"]), 1).unwrap();
        assert_eq!(operators.withdraw("https://id.example", "00u1").unwrap().as_ref(), Some(&first.id));
        let now = operators.get(&first.id).unwrap();
        assert_eq!((now.role, now.apps.as_slice()), (Role::Viewer, ["shop".to_owned()].as_slice()));
        assert_ne!(now.generation, first.generation);
    }
}
