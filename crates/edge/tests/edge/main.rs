//! The edge over real sockets, between a client and an upstream.

#[cfg(test)]
mod support;

#[cfg(test)]
mod accounts;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod challenges;
#[cfg(test)]
mod check;
#[cfg(test)]
mod client_certificates;
#[cfg(test)]
mod compression;
#[cfg(test)]
mod crawlers;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod introduced;
#[cfg(test)]
mod life;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod mmdb;
#[cfg(test)]
mod names;
#[cfg(test)]
mod origins;
#[cfg(test)]
mod passthrough;
#[cfg(test)]
mod places;
#[cfg(test)]
mod proxied;
#[cfg(test)]
mod rates;
#[cfg(test)]
mod responses;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod standing;
#[cfg(test)]
mod tcp;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod upstreams;
#[cfg(test)]
mod wide;
