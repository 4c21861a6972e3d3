/** Addresses as operators type them. The node has the last word; this only catches slips before they travel. */

export type Target = { ip: string } | { prefix: string };

/** Reads an address or a range. Null when it is neither. */
export function parseTarget(text: string): Target | null {
  const typed = text.trim();
  const [address = '', bits, more] = typed.split('/');
  const width = addressBits(address);
  if (width === null || more !== undefined) return null;
  if (bits === undefined) return { ip: typed };
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > width) return null;
  return { prefix: typed };
}

/** 32 for an IPv4 address, 128 for an IPv6 one, null for neither. */
export function addressBits(text: string): 32 | 128 | null {
  if (isIpv4(text)) return 32;
  return isIpv6(text) ? 128 : null;
}

function isIpv4(text: string): boolean {
  const parts = text.split('.');
  return parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
}

function isIpv6(text: string): boolean {
  if (!text.includes(':') || text.includes(':::')) return false;
  const halves = text.split('::');
  if (halves.length > 2) return false;
  let groups = 0;
  for (const [place, half] of halves.entries()) {
    const parts = half === '' ? [] : half.split(':');
    for (const [index, part] of parts.entries()) {
      const last = place === halves.length - 1 && index === parts.length - 1;
      if (last && part.includes('.')) {
        if (!isIpv4(part)) return false;
        groups += 2;
      } else {
        if (!/^[0-9a-f]{1,4}$/i.test(part)) return false;
        groups += 1;
      }
    }
  }
  return halves.length === 2 ? groups < 8 : groups === 8;
}
