//! Numbers and addresses appended as text, without the machinery of formats: logs and header fields hold some in every request.

use std::io::Write as _;
use std::net::IpAddr;

/// Appends a number in decimal.
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// Appends an address as it is written, IPv6 by RFC 5952.
pub fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            for (place, octet) in v4.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                push_decimal(out, u64::from(octet));
            }
        }
        // Writing to a vector cannot fail.
        IpAddr::V6(v6) => _ = write!(out, "{v6}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_addresses_read_as_the_standard_library_writes_them(number: u64, ip: IpAddr) {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            out.push(b' ');
            push_ip(&mut out, ip);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{number} {ip}"));
        }
    }
}
