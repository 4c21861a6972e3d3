//! The admin API as a whole: who gets in, what each endpoint does, and what it says.

#[cfg(test)]
mod access;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod endpoints;
#[cfg(test)]
mod held;
#[cfg(test)]
mod import;
#[cfg(test)]
mod incidents;
#[cfg(test)]
mod lapi;
#[cfg(test)]
mod listening;
#[cfg(test)]
mod live;
#[cfg(test)]
mod oidc;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod pace;
#[cfg(test)]
mod playbooks;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod shared_accounts;
#[cfg(test)]
mod support;
