//! Transformations: the first byte chooses one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phalanx_inspect::transform::{self, UnicodeMap};
use phalanx_policy::seclang::ir::Transformation::{self, *};

const ALL: [Transformation; 36] = [
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
];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, input)) = data.split_first() else { return };
    let mut out = Vec::new();
    let changed =
        transform::apply(ALL[usize::from(choice) % ALL.len()], input, &UnicodeMap::default(), &mut out);
    assert!(!changed || (out != input && out.len() <= input.len() * 6 + 64));
});
