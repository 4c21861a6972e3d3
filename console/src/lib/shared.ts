/** What nodes have in common. Pure. */

/** The version of the fleet's policy that a node runs; 0: it runs its own, which it counts for itself. */
export function versionOf(policy: { version: number; hash: string } | null | undefined): number {
  return policy?.hash ? policy.version : 0;
}
