//! The edge over real sockets, between a client and an upstream.

#[cfg(test)]
mod support;

#[cfg(test)]
mod bodies;
mod forwarding;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod life;
mod limits;
#[cfg(test)]
mod names;
#[cfg(test)]
mod places;
mod rates;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod standing;
#[cfg(test)]
mod tls;
mod upstreams;
