import { expect, test } from 'vitest';
import { changed, filesOf, namesOf, textsOf } from './files';

const policy = { entry: 'policy.toml', files: { 'b.conf': btoa('SecRule'), 'policy.toml': 'w6TDtg==', 'geo.bin': '/wD/', 'a.conf': '' } };

test('files come back as they were, whatever is in them', () => {
  const texts = textsOf(policy);
  expect(texts.files['policy.toml']).toBe('äö');
  expect(Object.keys(texts.binary)).toEqual(['geo.bin']);
  expect(filesOf(texts)).toEqual(policy);
  const long = { entry: 'p', files: { p: 'x'.repeat(20_000) }, binary: {} };
  expect(textsOf(filesOf(long))).toEqual(long);
});

test('the policy file is the first, and changes are told by file', () => {
  const texts = textsOf(policy);
  expect(namesOf(texts)).toEqual(['policy.toml', 'a.conf', 'b.conf']);
  expect(changed({ ...texts, files: { ...texts.files, 'b.conf': 'other' } }, texts)).toEqual(['b.conf']);
});
