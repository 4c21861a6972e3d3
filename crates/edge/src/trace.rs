//! W3C trace context on its way through: which of it is believed, what becomes of it, and what the upstream gets.
//!
//! Nothing here allocates: most requests have no context, and those that have one keep it in 55 bytes.

use phalanx_model::{SpanId, Trace, TraceId, TraceParent};

use crate::http1::encode::field;
use crate::http1::fields::KnownFields;
use crate::settings::{TraceMode, TraceSettings};

/// What is done with the trace context of one request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TraceContext {
    /// The trace, where it belongs to one.
    pub(crate) trace: Option<Trace>,
    /// The client's `traceparent` goes on as it is.
    pub(crate) keeps_parent: bool,
    /// The client's `tracestate` goes on as it is.
    pub(crate) keeps_state: bool,
    /// The `traceparent` that goes on instead.
    own: Option<TraceParent>,
}

impl TraceContext {
    /// Decides about a request. `value` is the client's `traceparent`, where there is just one, `trusted` whether the client is a
    /// forwarder that is believed.
    pub(crate) fn of(
        settings: &TraceSettings,
        value: Option<&[u8]>,
        trusted: bool,
        mut random: impl FnMut() -> u64,
    ) -> Self {
        if settings.mode == TraceMode::Off {
            return Self { keeps_parent: true, keeps_state: true, ..Self::default() };
        }
        let believed = settings.mode != TraceMode::Restart || trusted;
        let asked = value.filter(|_| believed).and_then(TraceParent::parse);
        if settings.mode == TraceMode::Pass {
            let trace = asked.map(|asked| trace_of(asked, None));
            return Self { trace, keeps_parent: asked.is_some(), keeps_state: asked.is_some(), own: None };
        }
        let Some(span) = SpanId::from_bits(random()) else { return Self::default() };
        match asked {
            Some(asked) => Self {
                trace: Some(trace_of(asked, Some(span))),
                keeps_state: true,
                own: Some(asked.from_span(span)),
                ..Self::default()
            },
            None => Self::begin(settings, span, u128::from(random()) << 64 | u128::from(random())),
        }
    }

    /// A trace that begins here.
    fn begin(settings: &TraceSettings, span: SpanId, bits: u128) -> Self {
        let Some(id) = TraceId::from_bits(bits) else { return Self::default() };
        let sampled = settings.sample.takes(id);
        let trace = Trace { id, span: Some(span), parent: None, sampled };
        Self { trace: Some(trace), own: Some(TraceParent::new(id, span, sampled)), ..Self::default() }
    }

    /// Appends the field that stands for this hop.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if let Some(own) = self.own {
            field(out, b"traceparent", &own.to_text());
        }
    }
}

/// The client's `traceparent`, unless there are several, none of which counts then.
pub(crate) fn traceparent<'a>(head: &'a phalanx_model::RequestHead, known: &KnownFields) -> Option<&'a [u8]> {
    let field = known.traceparent.filter(|_| !known.traceparents)?;
    Some(head.bytes(field.value))
}

fn trace_of(asked: TraceParent, span: Option<SpanId>) -> Trace {
    Trace { id: asked.trace, span, parent: Some(asked.parent), sampled: asked.is_sampled() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sample;

    const ASKED: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(mode: TraceMode, value: Option<&[u8]>, trusted: bool) -> (TraceContext, String) {
        let mut next = 0;
        let settings = TraceSettings { mode, sample: Sample::ALL };
        let context = TraceContext::of(&settings, value, trusted, || {
            next += 1;
            next
        });
        let mut out = Vec::new();
        context.write(&mut out);
        (context, String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_mode_does_with_a_context_what_it_says() {
        let (off, written) = of(TraceMode::Off, Some(ASKED), true);
        assert!(off.trace.is_none() && off.keeps_parent && off.keeps_state && written.is_empty());
        let (pass, written) = of(TraceMode::Pass, Some(ASKED), false);
        assert!(pass.keeps_parent && pass.keeps_state && written.is_empty());
        assert_eq!(pass.trace.unwrap().span, None);
        let (goes_on, written) = of(TraceMode::Continue, Some(ASKED), false);
        assert!(!goes_on.keeps_parent && goes_on.keeps_state);
        assert_eq!(written, "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01\r\n");
        assert_eq!(goes_on.trace.unwrap().parent.unwrap().to_string(), "00f067aa0ba902b7");
        let (begins, written) = of(TraceMode::Restart, Some(ASKED), false);
        assert!(!begins.keeps_parent && !begins.keeps_state);
        assert_eq!(written, "traceparent: 00-00000000000000020000000000000003-0000000000000001-01\r\n");
        assert_eq!(begins.trace.unwrap().parent, None);
        let (of_forwarder, _) = of(TraceMode::Restart, Some(ASKED), true);
        assert_eq!(of_forwarder.trace, goes_on.trace);
    }

    #[test]
    fn what_is_no_context_goes_no_further() {
        for mode in [TraceMode::Pass, TraceMode::Continue, TraceMode::Restart] {
            let (context, written) = of(mode, Some(b"00-nonsense"), true);
            assert!(!context.keeps_parent && !context.keeps_state, "{mode:?}");
            assert_eq!(written.is_empty(), mode == TraceMode::Pass, "{mode:?}");
        }
    }

    #[test]
    fn traces_that_begin_here_are_sampled_by_their_share() {
        let half = Sample::of_million(500_000).unwrap();
        let taken = (0..1_000u64).filter(|n| {
            let bits = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            TraceId::from_bits(u128::from(bits)).is_some_and(|id| half.takes(id))
        });
        assert!((450..550).contains(&taken.count()));
        let id = TraceId::from_bits(u128::from(u64::MAX)).unwrap();
        assert!(
            Sample::ALL.takes(id)
                && !Sample::NONE.takes(id)
                && !Sample::NONE.takes(TraceId::from_bits(1 << 64).unwrap())
        );
        assert!(Sample::of_million(1_000_001).is_none());
    }
}
