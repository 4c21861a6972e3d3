//! Check digits of cards and of national numbers. Other bytes between the digits do not count.

/// Luhn's check, for `@verifyCC`.
pub fn is_credit_card(candidate: &[u8]) -> bool {
    let mut digits = 0;
    let sum: u32 = candidate
        .iter()
        .rev()
        .filter(|byte| byte.is_ascii_digit())
        .map(|byte| {
            digits += 1;
            let digit = u32::from(byte - b'0');
            match (digits % 2, digit) {
                (1, _) => digit,
                (_, 9) => 9,
                _ => digit * 2 % 9,
            }
        })
        .sum();
    digits > 0 && sum.is_multiple_of(10)
}

/// Brazil's taxpayer number, for `@verifyCPF`.
pub fn is_cpf(candidate: &[u8]) -> bool {
    let Some(number) = digits::<11>(candidate) else { return false };
    if is_run(&number) {
        return false;
    }
    let check = |count: u32| {
        let weighted = number.iter().zip((2..=count + 1).rev()).map(|(digit, weight)| digit * weight);
        match weighted.sum::<u32>() % 11 {
            0 | 1 => 0,
            rest => 11 - rest,
        }
    };
    let [.., ninth, tenth] = number;
    check(9) == ninth && check(10) == tenth
}

/// The social security number of the USA, for `@verifySSN`.
pub fn is_ssn(candidate: &[u8]) -> bool {
    let count = candidate.iter().filter(|byte| byte.is_ascii_digit()).count();
    let Some(number) = digits::<9>(candidate).filter(|_| count == 9) else { return false };
    let ascending = number.iter().zip(number.iter().skip(1)).all(|(digit, next)| digit + 1 == *next);
    let [a, b, c, d, e, f, g, h, i] = number;
    let (area, group, serial) = (a * 100 + b * 10 + c, d * 10 + e, f * 1000 + g * 100 + h * 10 + i);
    !ascending && !all_same(&number) && area != 0 && group != 0 && serial != 0 && area < 740 && area != 666
}

/// Austria's social security number, for `@verifySVNR`.
pub fn is_svnr(candidate: &[u8]) -> bool {
    let Some(number) = digits::<10>(candidate) else { return false };
    let [a, b, c, check, d, e, f, g, h, i] = number;
    let sum = (a * 3 + b * 7 + c * 9 + d * 5 + e * 8 + f * 4 + g * 2 + h + i * 6) % 11;
    !is_run(&number) && sum % 10 == check
}

/// The first `N` digits, when there are so many.
fn digits<const N: usize>(candidate: &[u8]) -> Option<[u32; N]> {
    let mut number = [0; N];
    let mut found = candidate.iter().filter(|byte| byte.is_ascii_digit());
    for place in &mut number {
        *place = u32::from(found.next()? - b'0');
    }
    Some(number)
}

/// Numbers that people type to get past a form: one digit repeated, or digits that count up.
fn is_run(number: &[u32]) -> bool {
    all_same(number)
        || number.iter().zip(number.iter().skip(1)).all(|(digit, next)| (digit + 1) % 10 == *next)
}

fn all_same(number: &[u32]) -> bool {
    number.iter().all(|digit| number.first() == Some(digit))
}
