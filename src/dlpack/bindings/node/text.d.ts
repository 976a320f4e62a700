//@ if tokenizer
/** The ids of a text (or of its UTF-8); `special`, by default true: with the tokens around it. Throws RangeError for a
 * text that is too long. */
tokenize(text: string | Uint8Array, options?: { special?: boolean }): number[];
/** The text of ids; `special`, by default false: with special tokens. Ids without a token are left out. */
detokenize(ids: Iterable<number>, options?: { special?: boolean }): string;
//@ end
//@ if embeds
/** The embedding of a text, @embedding@ numbers; `cut`: of the beginning of a text that is too long, which throws
 * RangeError otherwise. */
embed(text: string | Uint8Array, options?: { cut?: boolean }): Float32Array;
//@ end
//@ if decodes
/** The tokens that the model writes after a prompt. Throws RangeError for a prompt that is empty or has a token that is
 * none, and, with the `tokens` so far, where the text gets too long. */
generate(
  prompt: Iterable<number>,
  options?: Generation & { onToken?: (token: number) => boolean | void },
): number[];
//@ end
//@ if writes
/** What the model writes after a prompt. Throws RangeError for a prompt that is empty or too long, and, with the `text`
 * so far, where the text gets too long. */
write(
  prompt: string | Uint8Array,
  options?: Generation & { onText?: (piece: string) => boolean | void },
): string;
//@ end
