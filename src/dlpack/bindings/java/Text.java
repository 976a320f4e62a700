//@ if decodes
/** How a text is written. */
public static final class Generation {
  /** The most tokens to write. */
  public int maxTokens = 128;

  /** 0: the likeliest token each time. Else a token's chance is softmax(scores / temperature). */
  public float temperature;

  /** Only the so many likeliest are chosen from; 0: all. */
  public int topK;

  /** Of those only the likeliest that together have at least this share. */
  public float topP = 1;

  /** The same seed gives the same text. */
  public long seed;

  /** Tokens that end the text and are not given; null: none, or in {@link #write} those that the model names. */
  public long[] stop;

  /** Whether the prompt goes on from the text so far, that the predictor has read and written. */
  public boolean keep;
}

/** Is called with each token. */
public interface OnToken {
  /** Takes a token; true ends the text. */
  boolean take(long token);
}

//@ if writes
/** Is called with each piece of a text. */
public interface OnText {
  /** Takes a piece, whole characters; true ends the text. */
  boolean take(String piece);
}

//@ end
/** The text would get longer than a predictor keeps. */
public static final class FullException extends IllegalStateException {
  private static final long serialVersionUID = 1;

  /** The tokens that {@link #generate} wrote before. */
  public final transient long[] tokens;
//@ if writes

  /** What {@link #write} wrote before. */
  public final String text;
//@ end

  FullException(Taken taken) {
    super("@full@");
    tokens = taken.tokens();
//@ if writes
    text = taken.text.toString();
//@ end
  }
}

/** What has been written. */
private static final class Taken {
  private final OnToken onToken;
  private long[] made = new long[16];
  private int count;
//@ if writes
  private final OnText onText;
  private final StringBuilder text = new StringBuilder();
//@ end

//@ if writes
  Taken(OnToken onToken, OnText onText) {
    this.onToken = onToken;
    this.onText = onText;
  }
//@ else
  Taken(OnToken onToken) {
    this.onToken = onToken;
  }
//@ end

  long[] tokens() {
    return Arrays.copyOf(made, count);
  }

  /** Is called by C. */
  boolean take(long token) {
    if (count == made.length) made = Arrays.copyOf(made, 2 * count);
    made[count++] = token;
    return onToken != null && onToken.take(token);
  }
//@ if writes

  /** Is called by C. */
  boolean take(byte[] utf8) {
    String piece = new String(utf8, StandardCharsets.UTF_8);
    text.append(piece);
    return onText != null && onText.take(piece);
  }
//@ end
}

//@ end
//@ if tokenizer
/**
 * The ids of a text.
 *
 * @param special whether the tokens around a text are added
 * @throws IllegalArgumentException where the text is too long
 */
public synchronized int[] tokenize(String text, boolean special) {
  opened();
  byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
  int[] ids = new int[utf8.length + 16];
  int[] count = new int[1];
  int status = toIds(handle, utf8, special, ids, count);
  if (status == TOO_LONG && count[0] > 0) status = toIds(handle, utf8, special, ids = new int[count[0]], count);
  checkText(status);
  return Arrays.copyOf(ids, count[0]);
}

/**
 * The text of ids; those without a token are left out.
 *
 * @param special whether special tokens are written, too
 */
public synchronized String detokenize(int[] ids, boolean special) {
  opened();
  byte[] text = new byte[16 * ids.length];
  int[] bytes = new int[1];
  int status = toText(handle, ids, special, text, bytes);
  if (status == TOO_LONG) status = toText(handle, ids, special, text = new byte[bytes[0]], bytes);
  checkText(status);
  return new String(text, 0, bytes[0], StandardCharsets.UTF_8);
}

//@ end
//@ if embeds
/**
 * The embedding of a text, @embedding@ numbers.
 *
 * @param cut whether the beginning of a text that is too long is taken
 * @throws IllegalArgumentException where the text is too long
 */
public synchronized float[] embed(String text, boolean cut) {
  opened();
  byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
  float[] embedding = new float[@embedding@];
  int status = toEmbedding(handle, utf8, cut, embedding);
  if (status == TOO_LONG && utf8.length <= @text_bytes@) {
    throw new IllegalArgumentException("@too_many_tokens@");
  }
  checkText(status);
  return embedding;
}

//@ end
//@ if decodes
/**
 * The tokens that the model writes after a prompt.
 *
 * @param onToken is called with each token; may be null
 * @throws IllegalArgumentException where the prompt is empty or has a token that is none
 * @throws FullException where the text gets too long
 */
public synchronized long[] generate(long[] prompt, Generation how, OnToken onToken) {
//@ if writes
  Taken taken = new Taken(onToken, null);
//@ else
  Taken taken = new Taken(onToken);
//@ end
  generate(how, taken, prompt, null);
  return taken.tokens();
}

//@ if writes
/**
 * What the model writes after a prompt.
 *
 * @param onText is called with each piece of the text; may be null
 * @throws IllegalArgumentException where the prompt is empty or too long
 * @throws FullException where the text gets too long
 */
public synchronized String write(String prompt, Generation how, OnText onText) {
  Taken taken = new Taken(null, onText);
  generate(how, taken, null, prompt.getBytes(StandardCharsets.UTF_8));
  return taken.text.toString();
}

//@ end
/** Writes behind tokens or text; meanwhile the predictor is as if closed, so that nothing that is called frees it. */
private void generate(Generation how, Taken taken, long[] tokens, byte[] text) {
  opened();
  if (how.maxTokens < 0) throw new IllegalArgumentException(how.maxTokens + " is no number of tokens");
  if (!how.keep) check(newText(handle));
  long own = handle;
  int status;
  handle = 0;
  try {
    status = write(own, tokens, text, how.maxTokens, how.temperature, how.topK, how.topP, how.seed, how.stop, taken);
  } finally {
    handle = own;
  }
  if (status == FULL) throw new FullException(taken);
  checkText(status);
}

//@ end
private static void checkText(int status) {
  if (status == TOO_LONG) {
    throw new IllegalArgumentException("@too_long@");
  }
//@ if decodes
  if (status == BAD_ARGUMENT) {
    throw new IllegalArgumentException("@refused@");
  }
//@ end
  check(status);
}

//@ if decodes
private static final int BAD_ARGUMENT = 1;
private static final int FULL = 10;
//@ end
private static final int TOO_LONG = 9;
//@ if tokenizer

private static native int toIds(long handle, byte[] text, boolean special, int[] ids, int[] count);

private static native int toText(long handle, int[] ids, boolean special, byte[] text, int[] bytes);
//@ end
//@ if embeds

private static native int toEmbedding(long handle, byte[] text, boolean cut, float[] embedding);
//@ end
//@ if decodes

private static native int newText(long handle);

private static native int write(
    long handle, long[] tokens, byte[] text, int most, float temperature, int topK, float topP, long seed,
    long[] stop, Taken taken);
//@ end
