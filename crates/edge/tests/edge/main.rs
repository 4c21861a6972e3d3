//! The edge over real sockets, between a client and an upstream.

mod support;

mod forwarding;
mod framing;
mod life;
mod limits;
mod rules;
mod standing;
