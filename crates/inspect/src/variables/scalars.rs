//! Variables with one value.

use phalanx_policy::seclang::ir::{BodyProcessor, Variable};

use crate::program::{Program, Select, Spec};
use crate::transaction::Transaction;
use crate::transaction::state::{List, TxValue};
use crate::transaction::values::{Blob, Source, ValueId};

impl Transaction {
    /// The value of a single variable, and whether it came from a secret. `None`: it has none here.
    pub(crate) fn scalar(&mut self, program: &Program, spec: &Spec) -> Option<(ValueId, bool)> {
        if let Some(blob) = self.span_scalar(spec.variable) {
            return Some((self.scratch.state.values.intern(blob), false));
        }
        if let Some(number) = self.number_scalar(spec.variable) {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            return Some((self.scratch.state.values.intern_number(number), false));
        }
        self.text_scalar(program, spec)
    }

    /// Variables that are spans.
    fn span_scalar(&self, variable: Variable) -> Option<Blob> {
        use Variable as V;
        let state = &self.scratch.state;
        let scalars = &state.scalars;
        Some(match variable {
            V::RequestMethod => scalars.method.0,
            V::RequestUriRaw => scalars.uri_raw.0,
            V::RequestUri => scalars.uri.0,
            V::RequestFilename | V::PathInfo => scalars.filename.0,
            V::RequestBasename => scalars.basename.0,
            V::QueryString => scalars.query.0,
            V::RequestLine => scalars.line.0,
            V::RequestProtocol => scalars.protocol.0,
            V::RequestBody if state.flags.request_body_kept => {
                Blob::new(Source::Body, 0, state.values.buffers.body.len())
            }
            V::ResponseBody if state.flags.response_body_kept => {
                Blob::new(Source::Response, 0, state.values.buffers.response.len())
            }
            V::ServerName => host_name(scalars.host.0, state.values.buffers.bytes(scalars.host.0)),
            _ => return None,
        })
    }

    /// Variables that are numbers.
    fn number_scalar(&self, variable: Variable) -> Option<u64> {
        use Variable as V;
        let state = &self.scratch.state;
        let multipart = &state.multipart;
        let length_of = |list: List, names: bool| -> u64 {
            let length = |member: &crate::transaction::state::Member| {
                let name = if names { state.values.blob(member.name).len } else { 0 };
                u64::from(name) + u64::from(state.values.blob(member.value).len)
            };
            state.list(list).iter().map(length).sum()
        };
        Some(match variable {
            V::ArgsCombinedSize => length_of(List::ArgsGet, true) + length_of(List::ArgsPost, true),
            V::FilesCombinedSize => state.files_bytes,
            V::FullRequestLength => len(state.values.buffers.head.len() + state.values.buffers.body.len()),
            V::RequestBodyLength => len(state.values.buffers.body.len()),
            V::ResponseContentLength => len(state.values.buffers.response.len()),
            V::InboundDataError => u64::from(state.flags.inbound_data_error),
            V::OutboundDataError => u64::from(state.flags.outbound_data_error),
            V::UrlencodedError => u64::from(state.flags.urlencoded_error),
            V::MscPcreError | V::MscPcreLimitsExceeded => u64::from(state.flags.pcre_limit),
            V::ReqbodyError | V::ReqbodyProcessorError => u64::from(state.reqbody_error.is_some()),
            V::MultipartBoundaryQuoted => u64::from(multipart.boundary_quoted),
            V::MultipartBoundaryWhitespace => u64::from(multipart.boundary_whitespace),
            V::MultipartCrlfLfLines => u64::from(multipart.crlf_lf_lines),
            V::MultipartDataAfter => u64::from(multipart.data_after),
            V::MultipartDataBefore => u64::from(multipart.data_before),
            V::MultipartFileLimitExceeded => u64::from(multipart.file_limit_exceeded),
            V::MultipartHeaderFolding => u64::from(multipart.header_folding),
            V::MultipartInvalidHeaderFolding => u64::from(multipart.invalid_header_folding),
            V::MultipartInvalidPart => u64::from(multipart.invalid_part),
            V::MultipartInvalidQuoting => u64::from(multipart.invalid_quoting),
            V::MultipartLfLine => u64::from(multipart.lf_line),
            V::MultipartMissingSemicolon => u64::from(multipart.missing_semicolon),
            V::MultipartStrictError => u64::from(multipart.strict_error),
            V::MultipartUnmatchedBoundary => u64::from(multipart.unmatched_boundary),
            V::HighestSeverity => state.highest_severity.map_or(255, |severity| severity as u64),
            V::RemotePort => u64::from(self.connection.client_port),
            V::ServerPort => u64::from(self.connection.server_port),
            V::ResponseStatus => u64::from(state.response_status),
            V::Duration => self.now_ms.saturating_sub(self.connection.now_ms),
            V::TimeEpoch => self.connection.now_ms / 1000,
            V::TimeSec => self.connection.now_ms / 1000 % 60,
            V::TimeMin => self.connection.now_ms / 60_000 % 60,
            V::TimeHour => self.connection.now_ms / 3_600_000 % 24,
            V::TimeWday => (self.connection.now_ms / DAY_MS + 4) % 7,
            V::TimeDay => civil(self.connection.now_ms / DAY_MS).2,
            V::TimeMon => civil(self.connection.now_ms / DAY_MS).1 - 1,
            V::TimeYear => civil(self.connection.now_ms / DAY_MS).0,
            _ => return None,
        })
    }

    /// Variables that are made as text.
    fn text_scalar(&mut self, program: &Program, spec: &Spec) -> Option<(ValueId, bool)> {
        use Variable as V;
        if let Some(found) = self.derived_scalar(program, spec) {
            return found;
        }
        let time = self.connection.now_ms / 1000;
        let text = match spec.variable {
            V::RemoteAddr | V::RemoteHost => {
                phalanx_model::net::canonical(self.connection.client).to_string()
            }
            V::ServerAddr => phalanx_model::net::canonical(self.connection.server).to_string(),
            V::UniqueId => self.connection.request_id.to_string(),
            V::Time => format!("{:02}:{:02}:{:02}", time / 3600 % 24, time / 60 % 60, time % 60),
            V::ReqbodyErrorMsg | V::ReqbodyProcessorErrorMsg => {
                self.scratch.state.reqbody_error.clone().unwrap_or_default()
            }
            V::ReqbodyProcessor => self.processor.map_or("", BodyProcessor::name).to_owned(),
            V::ResponseProtocol => "HTTP/1.1".to_owned(),
            V::StatusLine => format!("HTTP/1.1 {}", self.scratch.state.response_status),
            V::ModsecBuild => MODSEC_BUILD.to_owned(),
            V::AuthType => self.authorization_scheme()?,
            V::Webappid => program.engine.web_app_id.clone()?,
            V::Sessionid => self.persistent_key(V::Session)?,
            V::Userid => self.persistent_key(V::User)?,
            _ => return None,
        };
        Some((self.scratch.state.values.intern_bytes(text.as_bytes()), false))
    }

    /// Variables that depend on rules or on other variables. The outer `None`: not one of these.
    fn derived_scalar(&mut self, program: &Program, spec: &Spec) -> Option<Option<(ValueId, bool)>> {
        use Variable as V;
        Some(match spec.variable {
            V::MatchedVar => self.scratch.state.latest.map(|matched| (matched.value, matched.secret)),
            V::MatchedVarName => {
                let matched = self.scratch.state.latest?;
                let name = self.name_text(matched.name);
                Some((self.scratch.state.values.intern_bytes(&name), false))
            }
            V::Rule => self.rule_member(program, spec),
            V::ResponseContentType => {
                let mime = self.response_header(b"content-type").unwrap_or_default();
                let mime = mime.split(|&b| b == b';').next().unwrap_or_default().trim_ascii().to_vec();
                Some((self.scratch.state.values.intern_bytes(&mime), false))
            }
            V::FullRequest => {
                let buffers = &self.scratch.state.values.buffers;
                let whole = [buffers.head.as_ref(), buffers.body.as_ref()].concat();
                Some((self.scratch.state.values.intern_bytes(&whole), false))
            }
            _ => return None,
        })
    }

    /// `RULE:id` and its like, of the rule that runs.
    fn rule_member(&mut self, program: &Program, spec: &Spec) -> Option<(ValueId, bool)> {
        let rule = program.rules.get(self.scratch.state.rule as usize)?;
        let Select::Key(key) = &spec.select else {
            return None;
        };
        let text = match key.as_ref() {
            b"id" => rule.id.to_string(),
            b"phase" => rule.phase.to_string(),
            b"severity" => (rule.info.severity? as u8).to_string(),
            b"msg" => self.scratch.state.message.clone(),
            b"logdata" => self.scratch.state.data.clone(),
            _ => return None,
        };
        Some((self.scratch.state.values.intern_bytes(text.as_bytes()), false))
    }

    fn authorization_scheme(&self) -> Option<String> {
        let value = self.request_header(b"authorization")?;
        let bytes = self.scratch.state.values.bytes(value);
        let scheme = bytes.split(|&b| b == b' ').next().unwrap_or_default();
        Some(String::from_utf8_lossy(scheme).into_owned())
    }

    /// A TX variable as a number; what is no number is 0.
    pub(crate) fn slot_number(&self, slot: crate::program::Slot) -> i64 {
        match self.scratch.state.slot(slot) {
            TxValue::Unset => 0,
            TxValue::Number(number) => number,
            TxValue::Text { blob, .. } => {
                crate::operator::number(self.scratch.state.values.buffers.bytes(blob))
            }
        }
    }
}

/// The host without its port.
fn host_name(blob: Blob, host: &[u8]) -> Blob {
    let end = match host.first() {
        Some(b'[') => host.iter().position(|&b| b == b']').map_or(host.len(), |at| at + 1),
        _ => host.iter().position(|&b| b == b':').unwrap_or(host.len()),
    };
    blob.part(0, end)
}

fn len(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Year, month (1 to 12) and day of a day since 1970 (Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

const DAY_MS: u64 = 86_400_000;
/// The build number of the ModSecurity whose semantics we follow, as rules that ask for it expect.
const MODSEC_BUILD: &str = "030000012";

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_are_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(20_777), (2026, 11, 20));
    }
}
