//! The names of the language, and what each stands for.

use super::ir::{Transformation, Variable};

impl Variable {
    /// The variable's name in rule files.
    pub fn name(self) -> &'static str {
        VARIABLES.iter().find(|(_, variable)| *variable == self).map_or("", |(name, _)| name)
    }

    /// The variable of this name, whatever its case.
    pub fn from_name(name: &str) -> Option<Self> {
        VARIABLES
            .iter()
            .chain(VARIABLE_ALIASES)
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, variable)| *variable)
    }

    /// Whether the variable has members that a selector can pick.
    pub fn is_collection(self) -> bool {
        matches!(
            self,
            Self::Args
                | Self::ArgsGet
                | Self::ArgsGetNames
                | Self::ArgsNames
                | Self::ArgsPost
                | Self::ArgsPostNames
                | Self::Env
                | Self::Files
                | Self::FilesNames
                | Self::FilesSizes
                | Self::FilesTmpContent
                | Self::FilesTmpNames
                | Self::Geo
                | Self::Global
                | Self::Ip
                | Self::MatchedVars
                | Self::MatchedVarsNames
                | Self::MultipartFilename
                | Self::MultipartName
                | Self::MultipartPartHeaders
                | Self::RequestCookies
                | Self::RequestCookiesNames
                | Self::RequestHeaders
                | Self::RequestHeadersNames
                | Self::Resource
                | Self::ResponseArgs
                | Self::ResponseHeaders
                | Self::ResponseHeadersNames
                | Self::Rule
                | Self::Session
                | Self::Tx
                | Self::User
                | Self::Xml
        )
    }

    /// Whether the collection outlives the transaction.
    pub fn is_persistent(self) -> bool {
        matches!(self, Self::Global | Self::Ip | Self::Resource | Self::Session | Self::User)
    }
}

impl Transformation {
    /// The transformation's name in rule files.
    pub fn name(self) -> &'static str {
        TRANSFORMATIONS
            .iter()
            .find(|(_, transformation)| *transformation == self)
            .map_or("", |(name, _)| name)
    }

    /// Every transformation, in the order of the reference.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        TRANSFORMATIONS.iter().map(|(_, transformation)| *transformation)
    }

    /// The transformation of this name, whatever its case.
    pub fn from_name(name: &str) -> Option<Self> {
        TRANSFORMATIONS
            .iter()
            .chain(TRANSFORMATION_ALIASES)
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, transformation)| *transformation)
    }
}

/// Names to suggest for an unknown variable.
pub(super) fn variable_names() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().map(|(name, _)| *name)
}

/// Why a variable of the reference is not filled here.
pub(super) fn why_no_variable(name: &str) -> Option<&'static str> {
    REFUSED_VARIABLES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, why)| *why)
}

/// Why a variable never has a value here.
pub(super) fn why_empty(variable: Variable) -> Option<&'static str> {
    let name = variable.name();
    EMPTY_VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

/// Names to suggest for an unknown transformation.
pub(super) fn transformation_names() -> impl Iterator<Item = &'static str> {
    TRANSFORMATIONS.iter().map(|(name, _)| *name)
}

pub(super) const VARIABLES: &[(&str, Variable)] = &[
    ("ARGS", Variable::Args),
    ("ARGS_COMBINED_SIZE", Variable::ArgsCombinedSize),
    ("ARGS_GET", Variable::ArgsGet),
    ("ARGS_GET_NAMES", Variable::ArgsGetNames),
    ("ARGS_NAMES", Variable::ArgsNames),
    ("ARGS_POST", Variable::ArgsPost),
    ("ARGS_POST_NAMES", Variable::ArgsPostNames),
    ("AUTH_TYPE", Variable::AuthType),
    ("DURATION", Variable::Duration),
    ("ENV", Variable::Env),
    ("FILES", Variable::Files),
    ("FILES_COMBINED_SIZE", Variable::FilesCombinedSize),
    ("FILES_NAMES", Variable::FilesNames),
    ("FILES_SIZES", Variable::FilesSizes),
    ("FILES_TMP_CONTENT", Variable::FilesTmpContent),
    ("FILES_TMPNAMES", Variable::FilesTmpNames),
    ("FULL_REQUEST", Variable::FullRequest),
    ("FULL_REQUEST_LENGTH", Variable::FullRequestLength),
    ("GEO", Variable::Geo),
    ("GLOBAL", Variable::Global),
    ("HIGHEST_SEVERITY", Variable::HighestSeverity),
    ("INBOUND_DATA_ERROR", Variable::InboundDataError),
    ("IP", Variable::Ip),
    ("MATCHED_VAR", Variable::MatchedVar),
    ("MATCHED_VAR_NAME", Variable::MatchedVarName),
    ("MATCHED_VARS", Variable::MatchedVars),
    ("MATCHED_VARS_NAMES", Variable::MatchedVarsNames),
    ("MSC_PCRE_ERROR", Variable::MscPcreError),
    ("MSC_PCRE_LIMITS_EXCEEDED", Variable::MscPcreLimitsExceeded),
    ("MODSEC_BUILD", Variable::ModsecBuild),
    ("MULTIPART_BOUNDARY_QUOTED", Variable::MultipartBoundaryQuoted),
    ("MULTIPART_BOUNDARY_WHITESPACE", Variable::MultipartBoundaryWhitespace),
    ("MULTIPART_CRLF_LF_LINES", Variable::MultipartCrlfLfLines),
    ("MULTIPART_DATA_AFTER", Variable::MultipartDataAfter),
    ("MULTIPART_DATA_BEFORE", Variable::MultipartDataBefore),
    ("MULTIPART_FILE_LIMIT_EXCEEDED", Variable::MultipartFileLimitExceeded),
    ("MULTIPART_FILENAME", Variable::MultipartFilename),
    ("MULTIPART_HEADER_FOLDING", Variable::MultipartHeaderFolding),
    ("MULTIPART_INVALID_HEADER_FOLDING", Variable::MultipartInvalidHeaderFolding),
    ("MULTIPART_INVALID_PART", Variable::MultipartInvalidPart),
    ("MULTIPART_INVALID_QUOTING", Variable::MultipartInvalidQuoting),
    ("MULTIPART_LF_LINE", Variable::MultipartLfLine),
    ("MULTIPART_MISSING_SEMICOLON", Variable::MultipartMissingSemicolon),
    ("MULTIPART_NAME", Variable::MultipartName),
    ("MULTIPART_PART_HEADERS", Variable::MultipartPartHeaders),
    ("MULTIPART_STRICT_ERROR", Variable::MultipartStrictError),
    ("MULTIPART_UNMATCHED_BOUNDARY", Variable::MultipartUnmatchedBoundary),
    ("OUTBOUND_DATA_ERROR", Variable::OutboundDataError),
    ("PATH_INFO", Variable::PathInfo),
    ("QUERY_STRING", Variable::QueryString),
    ("REMOTE_ADDR", Variable::RemoteAddr),
    ("REMOTE_HOST", Variable::RemoteHost),
    ("REMOTE_PORT", Variable::RemotePort),
    ("REMOTE_USER", Variable::RemoteUser),
    ("REQBODY_ERROR", Variable::ReqbodyError),
    ("REQBODY_ERROR_MSG", Variable::ReqbodyErrorMsg),
    ("REQBODY_PROCESSOR", Variable::ReqbodyProcessor),
    ("REQBODY_PROCESSOR_ERROR", Variable::ReqbodyProcessorError),
    ("REQBODY_PROCESSOR_ERROR_MSG", Variable::ReqbodyProcessorErrorMsg),
    ("REQUEST_BASENAME", Variable::RequestBasename),
    ("REQUEST_BODY", Variable::RequestBody),
    ("REQUEST_BODY_LENGTH", Variable::RequestBodyLength),
    ("REQUEST_COOKIES", Variable::RequestCookies),
    ("REQUEST_COOKIES_NAMES", Variable::RequestCookiesNames),
    ("REQUEST_FILENAME", Variable::RequestFilename),
    ("REQUEST_HEADERS", Variable::RequestHeaders),
    ("REQUEST_HEADERS_NAMES", Variable::RequestHeadersNames),
    ("REQUEST_LINE", Variable::RequestLine),
    ("REQUEST_METHOD", Variable::RequestMethod),
    ("REQUEST_PROTOCOL", Variable::RequestProtocol),
    ("REQUEST_URI", Variable::RequestUri),
    ("REQUEST_URI_RAW", Variable::RequestUriRaw),
    ("RESOURCE", Variable::Resource),
    ("RESPONSE_ARGS", Variable::ResponseArgs),
    ("RESPONSE_BODY", Variable::ResponseBody),
    ("RESPONSE_CONTENT_LENGTH", Variable::ResponseContentLength),
    ("RESPONSE_CONTENT_TYPE", Variable::ResponseContentType),
    ("RESPONSE_HEADERS", Variable::ResponseHeaders),
    ("RESPONSE_HEADERS_NAMES", Variable::ResponseHeadersNames),
    ("RESPONSE_PROTOCOL", Variable::ResponseProtocol),
    ("RESPONSE_STATUS", Variable::ResponseStatus),
    ("RULE", Variable::Rule),
    ("SERVER_ADDR", Variable::ServerAddr),
    ("SERVER_NAME", Variable::ServerName),
    ("SERVER_PORT", Variable::ServerPort),
    ("SESSION", Variable::Session),
    ("SESSIONID", Variable::Sessionid),
    ("STATUS_LINE", Variable::StatusLine),
    ("TIME", Variable::Time),
    ("TIME_DAY", Variable::TimeDay),
    ("TIME_EPOCH", Variable::TimeEpoch),
    ("TIME_HOUR", Variable::TimeHour),
    ("TIME_MIN", Variable::TimeMin),
    ("TIME_MON", Variable::TimeMon),
    ("TIME_SEC", Variable::TimeSec),
    ("TIME_WDAY", Variable::TimeWday),
    ("TIME_YEAR", Variable::TimeYear),
    ("TX", Variable::Tx),
    ("UNIQUE_ID", Variable::UniqueId),
    ("URLENCODED_ERROR", Variable::UrlencodedError),
    ("USER", Variable::User),
    ("USERID", Variable::Userid),
    ("WEBAPPID", Variable::Webappid),
    ("XML", Variable::Xml),
];

/// Variables that are read and never have a value, each with the reason.
pub(super) const EMPTY_VARIABLES: &[(&str, &str)] = &[
    ("FILES_TMPNAMES", "uploaded files are not written to disk; their content is in FILES_TMP_CONTENT"),
    ("GEO", "no location database is loaded"),
    ("REMOTE_USER", "the edge does not read the application's users from a request"),
    ("RESPONSE_ARGS", RESPONSES),
];

/// Variables of the references of ModSecurity and Coraza that this engine refuses, each with the reason.
pub(super) const REFUSED_VARIABLES: &[(&str, &str)] = &[
    ("ARGS_PATH", "there is no `@restpath` that would fill it"),
    ("JSON", "values of a JSON body are in ARGS, named json.PATH"),
    ("PERF_ALL", TIMES),
    ("PERF_COMBINED", TIMES),
    ("PERF_GC", TIMES),
    ("PERF_LOGGING", TIMES),
    ("PERF_PHASE1", TIMES),
    ("PERF_PHASE2", TIMES),
    ("PERF_PHASE3", TIMES),
    ("PERF_PHASE4", TIMES),
    ("PERF_PHASE5", TIMES),
    ("PERF_RULES", TIMES),
    ("PERF_SREAD", TIMES),
    ("PERF_SWRITE", TIMES),
    ("REQUEST_XML", "XML is the request body"),
    ("RESPONSE_XML", RESPONSES),
    ("RES_BODY_ERROR", RESPONSES),
    ("RES_BODY_ERROR_MSG", RESPONSES),
    ("RES_BODY_PROCESSOR", RESPONSES),
    ("RES_BODY_PROCESSOR_ERROR", RESPONSES),
    ("RES_BODY_PROCESSOR_ERROR_MSG", RESPONSES),
    ("SCRIPT_BASENAME", SCRIPTS),
    ("SCRIPT_FILENAME", SCRIPTS),
    ("SCRIPT_GID", SCRIPTS),
    ("SCRIPT_GROUPNAME", SCRIPTS),
    ("SCRIPT_MODE", SCRIPTS),
    ("SCRIPT_UID", SCRIPTS),
    ("SCRIPT_USERNAME", SCRIPTS),
    ("SDBM_DELETE_ERROR", "collections are kept in memory"),
    ("STREAM_INPUT_BODY", "bodies are held up to their limit and inspected whole: use REQUEST_BODY"),
    ("STREAM_OUTPUT_BODY", "bodies are held up to their limit and inspected whole: use RESPONSE_BODY"),
    ("USERAGENT_IP", "REMOTE_ADDR is the client's address, behind trusted forwarders as well"),
    ("WEBSERVER_ERROR_LOG", "there is no web server whose log could be read"),
];

const TIMES: &str = "`phalanx waf bench` measures rules";
const RESPONSES: &str = "response bodies are inspected as text";
const SCRIPTS: &str = "the edge does not see the application's files";

/// Other names of the same, from ModSecurity's reference.
pub(super) const VARIABLE_ALIASES: &[(&str, Variable)] = &[
    ("FILES_TMP_NAMES", Variable::FilesTmpNames),
    ("MULTIPART_SEMICOLON_MISSING", Variable::MultipartMissingSemicolon),
];

const TRANSFORMATIONS: &[(&str, Transformation)] = &[
    ("base64Decode", Transformation::Base64Decode),
    ("base64DecodeExt", Transformation::Base64DecodeExt),
    ("base64Encode", Transformation::Base64Encode),
    ("cmdLine", Transformation::CmdLine),
    ("compressWhitespace", Transformation::CompressWhitespace),
    ("cssDecode", Transformation::CssDecode),
    ("escapeSeqDecode", Transformation::EscapeSeqDecode),
    ("hexDecode", Transformation::HexDecode),
    ("hexEncode", Transformation::HexEncode),
    ("htmlEntityDecode", Transformation::HtmlEntityDecode),
    ("jsDecode", Transformation::JsDecode),
    ("length", Transformation::Length),
    ("lowercase", Transformation::Lowercase),
    ("md5", Transformation::Md5),
    ("normalisePath", Transformation::NormalisePath),
    ("normalisePathWin", Transformation::NormalisePathWin),
    ("parityEven7bit", Transformation::ParityEven7bit),
    ("parityOdd7bit", Transformation::ParityOdd7bit),
    ("parityZero7bit", Transformation::ParityZero7bit),
    ("phpArgsNames", Transformation::PhpArgsNames),
    ("removeComments", Transformation::RemoveComments),
    ("removeCommentsChar", Transformation::RemoveCommentsChar),
    ("removeNulls", Transformation::RemoveNulls),
    ("removeWhitespace", Transformation::RemoveWhitespace),
    ("replaceComments", Transformation::ReplaceComments),
    ("replaceNulls", Transformation::ReplaceNulls),
    ("sha1", Transformation::Sha1),
    ("sqlHexDecode", Transformation::SqlHexDecode),
    ("trim", Transformation::Trim),
    ("trimLeft", Transformation::TrimLeft),
    ("trimRight", Transformation::TrimRight),
    ("uppercase", Transformation::Uppercase),
    ("urlDecode", Transformation::UrlDecode),
    ("urlDecodeUni", Transformation::UrlDecodeUni),
    ("urlEncode", Transformation::UrlEncode),
    ("utf8toUnicode", Transformation::Utf8ToUnicode),
];

/// Other spellings of the same, from ModSecurity's reference.
pub(super) const TRANSFORMATION_ALIASES: &[(&str, Transformation)] = &[
    ("normalizePath", Transformation::NormalisePath),
    ("normalizePathWin", Transformation::NormalisePathWin),
];
