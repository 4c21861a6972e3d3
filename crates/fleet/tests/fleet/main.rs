//! The fleet from outside: alone, against every engine, and on real nats-servers.

#[cfg(test)]
mod support;

#[cfg(test)]
mod audit;
#[cfg(test)]
mod blocklists;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod counts;
#[cfg(test)]
mod delegated;
#[cfg(test)]
mod enrolled;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod forgery;
#[cfg(test)]
mod held;
#[cfg(test)]
mod here;
#[cfg(test)]
mod joining;
#[cfg(test)]
mod latency;
#[cfg(test)]
mod local;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod remembered;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod shelves;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod singletons;
#[cfg(test)]
mod sites;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod stolen;
