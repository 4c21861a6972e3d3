//! The language is complete: every name of the references is read, or refused with a reason; and the guide says which.
#![cfg(test)]

use phalanx_policy::seclang::{LoadOptions, load_texts, reference};

/// Everything that is said about a rule file.
fn told(text: &str) -> Vec<String> {
    let files = [("t.conf", text), ("words.data", "a\n"), ("schema.json", "{}"), ("ips.txt", "192.0.2.1\n")];
    let faults = match load_texts(&files, &LoadOptions::default()) {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    };
    faults.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn is_known(kind: &str, name: &str, text: &str) {
    let told = told(text);
    assert!(!told.iter().any(|line| line.contains(&format!("unknown {kind}"))), "{name}: {told:#?}");
}

#[test]
fn the_guide_lists_what_the_code_reads() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/seclang.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (text, _) = page.split_once(MARK).expect("the page has its mark");
    let expected = format!("{text}{MARK}\n\n{}\n", reference().trim_end());
    if std::env::var_os("UPDATE_GUIDE").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    assert!(page == expected, "docs/guide/seclang.md is behind the code: run this test with UPDATE_GUIDE=1");
}

/// Below this line the page is written by the test.
const MARK: &str = "<!-- Below this line the page is written from the code's tables. -->";

#[test]
fn every_directive_of_the_references_is_known() {
    for name in DIRECTIVES.split_whitespace() {
        is_known("directive", name, &format!("{name} x\n"));
    }
}

#[test]
fn every_variable_of_the_references_is_known() {
    for name in VARIABLES.split_whitespace() {
        is_known("variable", name, &format!("SecRule {name} \"@rx x\" \"id:1,phase:2,pass\"\n"));
    }
}

#[test]
fn every_operator_of_the_references_is_known() {
    for name in OPERATORS.split_whitespace() {
        is_known("operator", name, &format!("SecRule ARGS \"@{name} 1\" \"id:1,phase:2,pass\"\n"));
    }
}

#[test]
fn every_transformation_of_the_references_is_known() {
    for name in TRANSFORMATIONS.split_whitespace() {
        is_known("transformation", name, &format!("SecRule ARGS \"@rx x\" \"id:1,phase:2,pass,t:{name}\"\n"));
    }
}

#[test]
fn every_action_of_the_references_is_known() {
    for name in ACTIONS.split_whitespace() {
        is_known("action", name, &format!("SecRule ARGS \"@rx x\" \"id:1,phase:2,pass,{name}\"\n"));
        is_known("action", name, &format!("SecRule ARGS \"@rx x\" \"id:1,phase:2,pass,{name}:1\"\n"));
    }
    for name in CTL.split_whitespace() {
        is_known("`ctl:", name, &format!("SecRule ARGS \"@rx x\" \"id:1,phase:2,pass,ctl:{name}=1\"\n"));
    }
}

#[test]
fn what_is_refused_is_told_with_file_line_and_name() {
    for (rule, told_as) in [
        (
            "SecRuleScript check.lua \"id:1,deny\"",
            "SecRuleScript is not supported: the engine runs no programs and no scripts",
        ),
        (
            "SecRule FILES_TMP_CONTENT \"@inspectFile check.lua\" \"id:1,deny\"",
            "the operator `@inspectFile` is not supported: the engine runs no programs and no scripts",
        ),
        (
            "SecRule ARGS \"x\" \"id:1,pass,exec:check.lua\"",
            "the action `exec` is not supported: the engine runs no programs and no scripts",
        ),
        (
            "SecRule XML \"@validateSchema a.xsd\" \"id:1,deny\"",
            "`@validateSchema a.xsd` names no JSON Schema, a file that ends in `.json`",
        ),
        (
            "SecRule XML \"@validateDTD a.dtd\" \"id:1,deny\"",
            "the operator `@validateDTD` is not supported: XML is not validated against a DTD",
        ),
        (
            "SecRule XML:/bookstore/book \"x\" \"id:1,deny\"",
            "the XPath expression `/bookstore/book` is not supported",
        ),
        ("SecRequestBodyDecodedRatio 0", "SecRequestBodyDecodedRatio is 1 to 1000000, not 0"),
        ("SecRequestBodyDecodedRatio 1000001", "SecRequestBodyDecodedRatio is 1 to 1000000, not 1000001"),
        ("SecRequestBodyDecodedRatio 10%", "SecRequestBodyDecodedRatio takes a number, not `10%`"),
        (
            "SecRule PERF_ALL \"x\" \"id:1,deny\"",
            "the variable `PERF_ALL` is not supported: `phalanx waf bench` measures rules",
        ),
        (
            "SecAction \"id:1,pass,initcol:ip=%{REMOTE_ADDR},deprecatevar:ip.x=1\"",
            "`deprecatevar:ip.x=1` has no rate; `deprecatevar:ip.score=5/60` takes 5 away every 60 seconds",
        ),
        (
            "SecAction \"id:1,pass,deprecatevar:tx.x=1/0\"",
            "`deprecatevar:tx.x=1/0` has no rate; `deprecatevar:ip.score=5/60` takes 5 away every 60 seconds",
        ),
        ("SecRule ARGS \"@validateSchema none.json\" \"id:1,deny\"", "there is no file `none.json`"),
    ] {
        let lines = told(&format!("# first line\n{rule}\n"));
        let prefix = "error: t.conf:2: ";
        assert!(
            lines.iter().any(|line| line.starts_with(&format!("{prefix}{told_as}"))),
            "{rule}: {lines:#?}"
        );
    }
}

const DIRECTIVES: &str = "Include IncludeOptional SecAction SecArgumentSeparator SecArgumentsLimit SecAuditEngine
    SecAuditLog SecAuditLog2 SecAuditLogDir SecAuditLogDirMode SecAuditLogFileMode SecAuditLogFormat SecAuditLogParts
    SecAuditLogPrefix SecAuditLogRelevantStatus SecAuditLogStorageDir SecAuditLogType SecCacheTransformations SecChrootDir
    SecCollectionTimeout SecComponentSignature SecConnEngine SecConnReadStateLimit SecConnWriteStateLimit
    SecContentInjection SecCookieFormat SecCookieV0Separator SecDataDir SecDataset SecDebugLog SecDebugLogLevel
    SecDefaultAction SecDisableBackendCompression SecGeoLookupDb SecGsbLookupDb SecGuardianLog SecHashEngine SecHashKey
    SecHashMethodPm SecHashMethodRx SecHashParam SecHttpBlKey SecIgnoreRuleCompilationErrors SecInterceptOnError
    SecMarker SecParseXmlIntoArgs SecPcreMatchLimit SecPcreMatchLimitRecursion SecReadStateLimit SecRemoteRules
    SecRemoteRulesFailAction SecRequestBodyAccess SecRequestBodyInMemoryLimit SecRequestBodyJsonDepthLimit
    SecRequestBodyLimit SecRequestBodyLimitAction SecRequestBodyNoFilesLimit SecResponseBodyAccess SecResponseBodyLimit
    SecResponseBodyLimitAction SecResponseBodyMimeType SecResponseBodyMimeTypesClear SecRule SecRuleEngine
    SecRuleInheritance SecRulePerfTime SecRuleRemoveById SecRuleRemoveByMsg SecRuleRemoveByTag SecRuleScript
    SecRuleUpdateActionById SecRuleUpdateTargetById SecRuleUpdateTargetByMsg SecRuleUpdateTargetByTag SecRxPreFilter
    SecSensorId SecServerSignature SecStatusEngine SecStreamInBodyInspection SecStreamOutBodyInspection SecTmpDir
    SecTmpSaveUploadedFiles SecUnicodeCodePage SecUnicodeMapFile SecUploadDir SecUploadFileLimit SecUploadFileMode
    SecUploadKeepFiles SecWebAppId SecWriteStateLimit SecXmlExternalEntity";

const VARIABLES: &str = "ARGS ARGS_COMBINED_SIZE ARGS_GET ARGS_GET_NAMES ARGS_NAMES ARGS_PATH ARGS_POST ARGS_POST_NAMES
    AUTH_TYPE DURATION ENV FILES FILES_COMBINED_SIZE FILES_NAMES FILES_SIZES FILES_TMPNAMES FILES_TMP_CONTENT
    FULL_REQUEST FULL_REQUEST_LENGTH GEO GLOBAL HIGHEST_SEVERITY INBOUND_DATA_ERROR IP JSON MATCHED_VAR MATCHED_VARS
    MATCHED_VARS_NAMES MATCHED_VAR_NAME MODSEC_BUILD MSC_PCRE_ERROR MSC_PCRE_LIMITS_EXCEEDED MULTIPART_BOUNDARY_QUOTED
    MULTIPART_BOUNDARY_WHITESPACE MULTIPART_CRLF_LF_LINES MULTIPART_DATA_AFTER MULTIPART_DATA_BEFORE
    MULTIPART_FILENAME MULTIPART_FILE_LIMIT_EXCEEDED MULTIPART_HEADER_FOLDING MULTIPART_INVALID_HEADER_FOLDING
    MULTIPART_INVALID_PART MULTIPART_INVALID_QUOTING MULTIPART_LF_LINE MULTIPART_MISSING_SEMICOLON MULTIPART_NAME
    MULTIPART_PART_HEADERS MULTIPART_SEMICOLON_MISSING MULTIPART_STRICT_ERROR MULTIPART_UNMATCHED_BOUNDARY
    OUTBOUND_DATA_ERROR PATH_INFO PERF_ALL PERF_COMBINED PERF_GC PERF_LOGGING PERF_PHASE1 PERF_PHASE2 PERF_PHASE3
    PERF_PHASE4 PERF_PHASE5 PERF_RULES PERF_SREAD PERF_SWRITE QUERY_STRING REMOTE_ADDR REMOTE_HOST REMOTE_PORT
    REMOTE_USER REQBODY_ERROR REQBODY_ERROR_MSG REQBODY_PROCESSOR REQBODY_PROCESSOR_ERROR REQBODY_PROCESSOR_ERROR_MSG
    REQUEST_BASENAME REQUEST_BODY REQUEST_BODY_LENGTH REQUEST_COOKIES REQUEST_COOKIES_NAMES REQUEST_FILENAME
    REQUEST_HEADERS REQUEST_HEADERS_NAMES REQUEST_LINE REQUEST_METHOD REQUEST_PROTOCOL REQUEST_URI REQUEST_URI_RAW
    REQUEST_XML RESOURCE RESPONSE_ARGS RESPONSE_BODY RESPONSE_CONTENT_LENGTH RESPONSE_CONTENT_TYPE RESPONSE_HEADERS
    RESPONSE_HEADERS_NAMES RESPONSE_PROTOCOL RESPONSE_STATUS RESPONSE_XML RES_BODY_ERROR RES_BODY_ERROR_MSG
    RES_BODY_PROCESSOR RES_BODY_PROCESSOR_ERROR RES_BODY_PROCESSOR_ERROR_MSG RULE SCRIPT_BASENAME SCRIPT_FILENAME
    SCRIPT_GID SCRIPT_GROUPNAME SCRIPT_MODE SCRIPT_UID SCRIPT_USERNAME SDBM_DELETE_ERROR SERVER_ADDR SERVER_NAME
    SERVER_PORT SESSION SESSIONID STATUS_LINE STREAM_INPUT_BODY STREAM_OUTPUT_BODY TIME TIME_DAY TIME_EPOCH TIME_HOUR
    TIME_MIN TIME_MON TIME_SEC TIME_WDAY TIME_YEAR TX UNIQUE_ID URLENCODED_ERROR USER USERAGENT_IP USERID WEBAPPID
    WEBSERVER_ERROR_LOG XML:/*";

const OPERATORS: &str = "beginsWith contains containsWord detectSQLi detectXSS endsWith eq fuzzyHash ge geoLookup
    gsbLookup gt inspectFile ipMatch ipMatchF ipMatchFromDataset ipMatchFromFile le lt noMatch pm pmf pmFromDataset
    pmFromFile rbl restpath rsub rx rxGlobal streq strmatch unconditionalMatch validateByteRange validateDTD validateHash
    validateNid validateSchema validateUrlEncoding validateUtf8Encoding verifyCC verifyCPF verifySSN verifySVNR within";

const TRANSFORMATIONS: &str = "base64Decode base64DecodeExt base64Encode cmdLine compressWhitespace cssDecode
    escapeSeqDecode hexDecode hexEncode htmlEntityDecode jsDecode length lowercase md5 none normalisePath
    normalisePathWin normalizePath normalizePathWin parityEven7bit parityOdd7bit parityZero7bit phpArgsNames
    removeComments removeCommentsChar removeNulls removeWhitespace replaceComments replaceNulls sha1 sqlHexDecode trim
    trimLeft trimRight uppercase urlDecode urlDecodeUni urlEncode utf8toUnicode";

const ACTIONS: &str = "accuracy allow append auditlog block capture chain ctl deny deprecatevar drop exec expirevar id
    initcol log logdata maturity msg multiMatch noauditlog nolog pass pause phase prepend proxy redirect rev sanitiseArg
    sanitiseMatched sanitiseMatchedBytes sanitiseRequestHeader sanitiseResponseHeader sanitizeArg sanitizeMatched
    sanitizeMatchedBytes sanitizeRequestHeader sanitizeResponseHeader setenv setrsc setsid setuid setvar severity skip
    skipAfter status t:none tag ver xmlns";

const CTL: &str = "auditEngine auditLogParts debugLogLevel forceRequestBodyVariable hashEnforcement hashEngine
    parseXmlIntoArgs requestBodyAccess requestBodyLimit requestBodyProcessor responseBodyAccess responseBodyLimit
    responseBodyProcessor ruleEngine ruleRemoveById ruleRemoveByMsg ruleRemoveByTag ruleRemoveTargetById
    ruleRemoveTargetByMsg ruleRemoveTargetByTag ruleUpdateTargetById";
