//! What a rule file says, typed: every name is resolved, every file reference read, nothing is text that the
//! engine would have to interpret again. The engine (`phalanx-inspect`) compiles this into its program.

use std::collections::BTreeMap;
use std::sync::Arc;

use phalanx_model::{AuditParts, Severity};

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// The file's path as it was reached.
    pub file: Arc<str>,
    /// The line it starts on, from 1.
    pub line: u32,
}

/// A whole rule set in load order.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    /// Rules, actions, markers and changes to earlier rules, in order.
    pub items: Vec<Item>,
    /// Engine-wide directives; the last one wins.
    pub engine: Engine,
}

/// One thing in load order.
#[derive(Debug, Clone)]
pub enum Item {
    /// `SecRule` (with its chain) or `SecAction`.
    Rule(Rule),
    /// `SecMarker`: the place `skipAfter` jumps to.
    Marker(Arc<str>),
    /// `SecRuleRemoveById`, `ByTag`, `ByMsg`.
    Remove(RuleSelector, Location),
    /// `SecRuleUpdateTargetById`, `ByTag`, `ByMsg`.
    UpdateTargets(RuleSelector, Vec<Target>, Location),
    /// `SecRuleUpdateActionById`.
    UpdateActions(RuleSelector, Vec<Action>, Location),
}

/// Which rules a change is about. Tags and messages are regular expressions in the PCRE dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleSelector {
    /// Inclusive ranges of ids.
    Ids(Vec<(u64, u64)>),
    /// Rules with a tag that matches.
    Tag(String),
    /// Rules with a message that matches.
    Message(String),
}

/// A rule: the first link and those chained to it. `SecAction` is a link without targets and operator.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The id; required on the first link.
    pub id: u64,
    /// Phase 1 to 5, default actions applied.
    pub phase: u8,
    /// The first link first; never empty.
    pub links: Vec<Link>,
}

impl Rule {
    /// The actions of all its links.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.links.iter().flat_map(|link| &link.actions)
    }
}

/// One `SecRule` of a chain.
#[derive(Debug, Clone)]
pub struct Link {
    /// Where it stands.
    pub at: Location,
    /// As it is written, its lines joined into one.
    pub source: Arc<str>,
    /// Variables to look at; empty for `SecAction`, which always matches.
    pub targets: Vec<Target>,
    /// What to look for; `None` for `SecAction`.
    pub operator: Option<Operator>,
    /// Transformations in order. `t:none` has already emptied the list before it; default actions are applied.
    pub transformations: Vec<Transformation>,
    /// Run the operator after every transformation, not only the last.
    pub multi_match: bool,
    /// Everything else, in order, with `SecDefaultAction` already merged in for the first link.
    pub actions: Vec<Action>,
}

/// A variable with its selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which collection or scalar.
    pub variable: Variable,
    /// Which members.
    pub selector: Selector,
    /// `&`: the number of members instead of the members.
    pub count: bool,
    /// `!`: take these away from the other targets of the rule.
    pub exclude: bool,
}

/// Which members of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// All of them, or a scalar.
    All,
    /// The one of this name; compared without case. Of `XML` the expression that names what stands beside the text.
    Key(Arc<str>),
    /// Those whose name matches: `/regex/`, PCRE dialect.
    Regex(Arc<str>),
    /// For `XML` only: `/*` (all text) or `//@*` (all attribute values); what is neither nor a key is refused at load.
    XPath(XPath),
}

/// The two expressions the Core Rule Set uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XPath {
    /// `/*`
    AllText,
    /// `//@*`
    AllAttributes,
}

/// The variables of ModSecurity v3's reference that this engine fills. A name that is not here is refused at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the SecLang reference, in camel case")]
pub enum Variable {
    Args,
    ArgsCombinedSize,
    ArgsGet,
    ArgsGetNames,
    ArgsNames,
    ArgsPost,
    ArgsPostNames,
    AuthType,
    Duration,
    Env,
    Files,
    FilesCombinedSize,
    FilesNames,
    FilesSizes,
    FilesTmpContent,
    FilesTmpNames,
    FullRequest,
    FullRequestLength,
    Geo,
    Global,
    HighestSeverity,
    InboundDataError,
    Ip,
    MatchedVar,
    MatchedVarName,
    MatchedVars,
    MatchedVarsNames,
    MscPcreError,
    MscPcreLimitsExceeded,
    ModsecBuild,
    MultipartBoundaryQuoted,
    MultipartBoundaryWhitespace,
    MultipartCrlfLfLines,
    MultipartDataAfter,
    MultipartDataBefore,
    MultipartFileLimitExceeded,
    MultipartFilename,
    MultipartHeaderFolding,
    MultipartInvalidHeaderFolding,
    MultipartInvalidPart,
    MultipartInvalidQuoting,
    MultipartLfLine,
    MultipartMissingSemicolon,
    MultipartName,
    MultipartPartHeaders,
    MultipartStrictError,
    MultipartUnmatchedBoundary,
    OutboundDataError,
    PathInfo,
    QueryString,
    RemoteAddr,
    RemoteHost,
    RemotePort,
    RemoteUser,
    ReqbodyError,
    ReqbodyErrorMsg,
    ReqbodyProcessor,
    ReqbodyProcessorError,
    ReqbodyProcessorErrorMsg,
    RequestBasename,
    RequestBody,
    RequestBodyLength,
    RequestCookies,
    RequestCookiesNames,
    RequestFilename,
    RequestHeaders,
    RequestHeadersNames,
    RequestLine,
    RequestMethod,
    RequestProtocol,
    RequestUri,
    RequestUriRaw,
    Resource,
    ResponseArgs,
    ResponseBody,
    ResponseContentLength,
    ResponseContentType,
    ResponseHeaders,
    ResponseHeadersNames,
    ResponseProtocol,
    ResponseStatus,
    Rule,
    ServerAddr,
    ServerName,
    ServerPort,
    Session,
    Sessionid,
    StatusLine,
    Time,
    TimeDay,
    TimeEpoch,
    TimeHour,
    TimeMin,
    TimeMon,
    TimeSec,
    TimeWday,
    TimeYear,
    Tx,
    UniqueId,
    UrlencodedError,
    User,
    Userid,
    Webappid,
    Xml,
}

/// What to look for.
#[derive(Debug, Clone)]
pub struct Operator {
    /// `!` before the operator.
    pub negated: bool,
    /// Which test, with its argument.
    pub test: Test,
}

/// The operators, with arguments parsed as far as they are constant.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the SecLang reference, in camel case")]
pub enum Test {
    BeginsWith(Macro),
    Contains(Macro),
    ContainsWord(Macro),
    EndsWith(Macro),
    Streq(Macro),
    Strmatch(Macro),
    Within(Macro),
    Eq(Macro),
    Ge(Macro),
    Gt(Macro),
    Le(Macro),
    Lt(Macro),
    DetectSqli,
    DetectXss,
    /// Prefixes, from the argument or the file.
    IpMatch(Vec<phalanx_model::Prefix>),
    /// Phrases, from the argument (`@pm`, with `|hex|` resolved) or the file (`@pmFromFile`), compared without case.
    Pm(Vec<Vec<u8>>),
    /// PCRE pattern; a macro in it is expanded per request.
    Rx(Macro),
    RxGlobal(Macro),
    NoMatch,
    UnconditionalMatch,
    /// Allowed bytes, one bit each.
    ValidateByteRange([u64; 4]),
    ValidateUrlEncoding,
    ValidateUtf8Encoding,
    /// The text of a JSON Schema, to which JSON must not conform for the operator to match.
    ValidateSchema(String),
    /// Pattern of candidates for a Luhn check.
    VerifyCc(String),
    VerifyCpf(String),
    VerifySsn(String),
    VerifySvnr(String),
}

/// Text with `%{...}` macros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macro(pub Vec<MacroPart>);

/// A piece of such a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MacroPart {
    /// Literal bytes.
    Text(Arc<str>),
    /// `%{VARIABLE}` or `%{VARIABLE.key}`; the key in lower case.
    Variable(Variable, Option<Arc<str>>),
}

/// The transformations of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the SecLang reference, in camel case")]
pub enum Transformation {
    Base64Decode,
    Base64DecodeExt,
    Base64Encode,
    CmdLine,
    CompressWhitespace,
    CssDecode,
    EscapeSeqDecode,
    HexDecode,
    HexEncode,
    HtmlEntityDecode,
    JsDecode,
    Length,
    Lowercase,
    Md5,
    NormalisePath,
    NormalisePathWin,
    ParityEven7bit,
    ParityOdd7bit,
    ParityZero7bit,
    PhpArgsNames,
    RemoveComments,
    RemoveCommentsChar,
    RemoveNulls,
    RemoveWhitespace,
    ReplaceComments,
    ReplaceNulls,
    Sha1,
    SqlHexDecode,
    Trim,
    TrimLeft,
    TrimRight,
    Uppercase,
    UrlDecode,
    UrlDecodeUni,
    UrlEncode,
    Utf8ToUnicode,
}

/// Actions that remain after parsing; `id`, `phase`, `t`, `multiMatch` and `chain` are fields of the rule.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the SecLang reference, in camel case")]
pub enum Action {
    Allow(AllowScope),
    Block,
    Deny,
    Drop,
    Pass,
    Redirect(Macro),
    Status(u16),
    AuditLog,
    NoAuditLog,
    Log,
    NoLog,
    Capture,
    Msg(Macro),
    LogData(Macro),
    Tag(Macro),
    Severity(Severity),
    /// `accuracy`, `maturity`, `rev`, `ver`: kept for the record.
    Meta(&'static str, Arc<str>),
    SetVar(SetVar),
    SetEnv(Macro),
    ExpireVar {
        collection: Variable,
        key: Macro,
        /// A number of seconds, often `%{tx.name}`.
        seconds: Macro,
    },
    DeprecateVar {
        collection: Variable,
        key: Macro,
        /// What is taken away each time, down to 0.
        amount: u32,
        /// How often, in seconds; at least 1.
        period_s: u32,
    },
    InitCol {
        collection: Variable,
        key: Macro,
    },
    SetSid(Macro),
    SetUid(Macro),
    SetRsc(Macro),
    Skip(u32),
    SkipAfter(Arc<str>),
    Ctl(Ctl),
    SanitiseArg(Arc<str>),
    SanitiseMatched,
    SanitiseMatchedBytes,
    SanitiseRequestHeader(Arc<str>),
    SanitiseResponseHeader(Arc<str>),
}

/// How far an `allow` reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowScope {
    /// `allow`: the whole transaction.
    Transaction,
    /// `allow:phase`
    Phase,
    /// `allow:request`
    Request,
}

/// `setvar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetVar {
    /// `Tx`, or a persistent collection.
    pub collection: Variable,
    /// The variable's name, lower case where it is constant.
    pub key: Macro,
    /// What becomes of it.
    pub change: Change,
}

/// What `setvar` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `=value`
    Set(Macro),
    /// `=+value`
    Add(Macro),
    /// `=-value`
    Subtract(Macro),
    /// `!name`
    Unset,
}

/// `ctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the SecLang reference, in camel case")]
pub enum Ctl {
    RuleEngine(RuleEngine),
    RequestBodyAccess(bool),
    ResponseBodyAccess(bool),
    ForceRequestBodyVariable(bool),
    RequestBodyProcessor(BodyProcessor),
    AuditEngine(AuditEngine),
    AuditLogParts(AuditPartsChange),
    RuleRemove(RuleSelector),
    RuleRemoveTarget(RuleSelector, Target),
    /// `parseXmlIntoArgs`
    ParseXmlIntoArgs(bool),
}

/// `SecRuleEngine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are those of the SecLang reference")]
pub enum RuleEngine {
    #[default]
    On,
    Off,
    DetectionOnly,
}

/// `ctl:auditLogParts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditPartsChange {
    /// These and no others.
    Set(AuditParts),
    /// `+`: these too.
    Add(AuditParts),
    /// `-`: not these.
    Remove(AuditParts),
}

/// `SecAuditEngine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are those of the SecLang reference")]
pub enum AuditEngine {
    On,
    #[default]
    Off,
    RelevantOnly,
}

/// The request body processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyProcessor {
    /// `application/x-www-form-urlencoded`
    Urlencoded,
    /// `multipart/form-data`
    Multipart,
    /// One JSON document.
    Json,
    /// A JSON document in each line; ours, as are all below but XML.
    JsonLines,
    /// A GraphQL document.
    Graphql,
    /// A message of Protocol Buffers.
    Protobuf,
    /// Such messages in frames of gRPC.
    Grpc,
    /// An XML document.
    Xml,
}

impl BodyProcessor {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Urlencoded,
        Self::Multipart,
        Self::Json,
        Self::JsonLines,
        Self::Graphql,
        Self::Protobuf,
        Self::Grpc,
        Self::Xml,
    ];

    /// Its name in rules: for `ctl:requestBodyProcessor`, and as `REQBODY_PROCESSOR`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Urlencoded => "URLENCODED",
            Self::Multipart => "MULTIPART",
            Self::Json => "JSON",
            Self::JsonLines => "JSONL",
            Self::Graphql => "GRAPHQL",
            Self::Protobuf => "PROTOBUF",
            Self::Grpc => "GRPC",
            Self::Xml => "XML",
        }
    }
}

/// What to do with a body beyond its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitAction {
    /// Refuse the request.
    Reject,
    /// Inspect what fits.
    ProcessPartial,
}

/// Engine-wide settings, from `Sec*` directives; `Default` gives the documented base settings.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are those of the SecLang directives")]
pub struct Engine {
    pub rule_engine: RuleEngine,
    pub request_body_access: bool,
    pub response_body_access: bool,
    pub request_body_limit: u64,
    pub request_body_no_files_limit: u64,
    pub request_body_limit_action: LimitAction,
    pub request_body_json_depth_limit: u32,
    /// `SecRequestBodyDecodedRatio`, ours: how many times its own size a compressed body may hold.
    pub request_body_decoded_ratio: usize,
    pub response_body_limit: u64,
    pub response_body_limit_action: LimitAction,
    pub response_body_mime_types: Vec<String>,
    pub arguments_limit: u32,
    pub argument_separator: u8,
    pub audit_engine: AuditEngine,
    pub audit_parts: AuditParts,
    /// `SecAuditLogRelevantStatus`: a pattern for the reply's status, and where it stands.
    pub audit_relevant_status: Option<(String, Location)>,
    pub component_signatures: Vec<String>,
    pub web_app_id: Option<String>,
    /// `SecUnicodeMapFile`: code point to byte for `urlDecodeUni`; empty when not given.
    pub unicode_map: BTreeMap<u32, u8>,
    pub collection_timeout_s: u64,
    pub parse_xml_into_args: bool,
    /// What `SecDefaultAction` said, by phase (index 0 is phase 1): `block` does the disruptive one of these, with its
    /// `status`. Rules already have merged in what they inherit. Empty where the phase has none: `block` then denies
    /// in a phase without defaults, as an operator who wrote `block` meant to.
    pub default_actions: [Vec<Action>; 5],
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            rule_engine: RuleEngine::On,
            request_body_access: true,
            response_body_access: false,
            request_body_limit: phalanx_model::limits::BODY_HELD_BYTES_MAX as u64,
            request_body_no_files_limit: 1024 * 1024,
            request_body_limit_action: LimitAction::Reject,
            request_body_json_depth_limit: 128,
            request_body_decoded_ratio: phalanx_model::limits::DECODED_RATIO_MAX,
            response_body_limit: 512 * 1024,
            response_body_limit_action: LimitAction::ProcessPartial,
            response_body_mime_types: ["text/plain", "text/html", "text/xml"].map(String::from).to_vec(),
            arguments_limit: 1000,
            argument_separator: b'&',
            // Where a node has an audit log, what rules found is in it unless they say otherwise.
            audit_engine: AuditEngine::RelevantOnly,
            audit_parts: AuditParts::default(),
            audit_relevant_status: None,
            component_signatures: Vec::new(),
            web_app_id: None,
            unicode_map: BTreeMap::new(),
            collection_timeout_s: 3600,
            parse_xml_into_args: false,
            default_actions: Default::default(),
        }
    }
}
