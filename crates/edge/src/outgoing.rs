//! How a response's body is written to the client: its content coding, where it is compressed on the way, then its transfer coding.

use phalanx_model::HttpVersion;

use crate::client::Client;
use crate::compress::{Choice, Encoder};
use crate::http1::{ResponseFraming, ResponseHead, encode};
use crate::request::Request;

/// A response's body on its way to the client.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) transfer: Transfer,
    pub(crate) choice: Choice,
    encoder: Option<Encoder>,
    /// What has come so far is to be read at once: the upstream sends a response as it makes it.
    is_live: bool,
}

/// How the client knows where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// There is none.
    None,
    /// By its length, or by its stream.
    Plain,
    Chunked,
    UntilClose,
}

impl Outgoing {
    /// How a response goes; `is_empty`: all of it is here, and it is nothing.
    pub(crate) fn of(client: &Client, request: &Request, response: &ResponseHead, is_empty: bool) -> Self {
        let rules = request.app().compression.as_deref();
        let mut choice = rules.map(|rules| Choice::of(rules, &request.head, response)).unwrap_or_default();
        let has_body = response.framing != ResponseFraming::None;
        let encoder = choice
            .coding
            .filter(|_| has_body && !is_empty)
            .and_then(|coding| client.worker.encoders.take(coding));
        if encoder.is_none() && has_body {
            choice = choice.as_it_is();
        }
        let by_length = matches!(response.framing, ResponseFraming::Length(_)) && encoder.is_none();
        let transfer = match request.head.version {
            _ if !has_body => Transfer::None,
            _ if by_length => Transfer::Plain,
            HttpVersion::Http10 => Transfer::UntilClose,
            HttpVersion::Http11 => Transfer::Chunked,
            HttpVersion::Http2 => Transfer::Plain,
        };
        let is_live = !matches!(response.framing, ResponseFraming::Length(_));
        Self { transfer, choice, encoder, is_live }
    }

    /// Appends some of the body; says how many bytes of content that is.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, data: &[u8]) -> usize {
        let transfer = self.transfer;
        let Some(encoder) = &mut self.encoder else { return transfer.write(out, data) };
        let mut bytes = 0;
        encoder.write(data, |coded| bytes = transfer.write(out, coded));
        bytes
    }

    /// Appends what an encoder holds back, where the client should not wait for it; says how many bytes of content that is.
    pub(crate) fn pause(&mut self, out: &mut Vec<u8>) -> usize {
        let (transfer, mut bytes) = (self.transfer, 0);
        if let Some(encoder) = self.encoder.as_mut().filter(|_| self.is_live) {
            encoder.flush(|coded| bytes = transfer.write(out, coded));
        }
        bytes
    }

    /// Appends the end of a body that is whole, with these field lines where HTTP/1 has a place for them; says how many bytes of content that is, or nothing if it is not whole after all.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>, trailers: &[u8]) -> Option<usize> {
        let (transfer, mut bytes) = (self.transfer, 0);
        if let Some(encoder) = &mut self.encoder {
            encoder.finish(|coded| bytes = transfer.write(out, coded));
            if encoder.has_failed() {
                return None;
            }
        }
        if transfer == Transfer::Chunked {
            encode::last_chunk_with(out, trailers);
        }
        Some(bytes)
    }
}

impl Transfer {
    fn write(self, out: &mut Vec<u8>, data: &[u8]) -> usize {
        match self {
            Self::None => return 0,
            Self::Plain | Self::UntilClose => out.extend_from_slice(data),
            Self::Chunked => encode::chunk(out, data),
        }
        data.len()
    }
}
