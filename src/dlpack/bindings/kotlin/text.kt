//@ if tokenizer

/** The ids of a text; [special]: with the tokens around it. */
fun tokenize(text: String, special: Boolean = true): IntArray = compiled.tokenize(text, special)

/** The text of ids; [special]: with special tokens. Ids without a token are left out. */
fun detokenize(ids: IntArray, special: Boolean = false): String = compiled.detokenize(ids, special)
//@ end
//@ if embeds

/** The embedding of a text, @embedding@ numbers; [cut]: of the beginning of one that is too long, an error otherwise. */
fun embed(text: String, cut: Boolean = false): FloatArray = compiled.embed(text, cut)
//@ end
//@ if decodes

/**
 * The tokens that the model writes after a prompt.
 *
 * @param onToken is called with each token; true ends the text
 * @throws IllegalArgumentException where the prompt is empty or has a token that is none
 * @throws dlpack.@package@.Predictor.FullException where the text gets too long; it has the tokens so far
 */
fun generate(prompt: LongArray, how: Generation = Generation(), onToken: (Long) -> Boolean = { false }): LongArray =
    compiled.generate(prompt, how.compiled) { onToken(it) }
//@ end
//@ if writes

/**
 * What the model writes after a prompt.
 *
 * @param onText is called with each piece of the text; true ends it
 * @throws IllegalArgumentException where the prompt is empty or too long
 * @throws dlpack.@package@.Predictor.FullException where the text gets too long; it has the text so far
 */
fun write(prompt: String, how: Generation = Generation(), onText: (String) -> Boolean = { false }): String =
    compiled.write(prompt, how.compiled) { onText(it) }
//@ end
