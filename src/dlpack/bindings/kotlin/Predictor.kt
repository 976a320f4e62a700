package dlpack.@package@.kotlin

import java.io.Closeable

/** What a run gives, row-major. */
class Outputs(
    @fields@
)
//@ if classes

/** A class: its place in the output, its name (the place in digits where it has none) and its probability. */
data class Classification(val index: Int, val label: String, val probability: Float)
//@ end
//@ if decodes

/**
 * How a text is written.
 *
 * @param maxTokens the most tokens to write
 * @param temperature 0: the likeliest token each time; else a token's chance is softmax(scores / temperature)
 * @param topK only the so many likeliest are chosen from; 0: all
 * @param topP of those only the likeliest that together have at least this share
 * @param seed the same seed gives the same text
 * @param stop tokens that end the text and are not given; null: none, or in `write` those that the model names
 * @param keep whether the prompt goes on from the text so far, that the predictor has read and written
 */
class Generation(
    maxTokens: Int = 128, temperature: Float = 0f, topK: Int = 0, topP: Float = 1f, seed: Long = 0,
    stop: LongArray? = null, keep: Boolean = false
) {
    internal val compiled = dlpack.@package@.Predictor.Generation().also {
        it.maxTokens = maxTokens
        it.temperature = temperature
        it.topK = topK
        it.topP = topP
        it.seed = seed
        it.stop = stop
        it.keep = keep
    }
}
//@ end

/**
 * The model @name@. @about@
 *
 * Several threads may call one predictor, which serves them in turn; to compute at the same time make one for each.
 * Close it, or let `use` do so: it holds memory that the garbage collector does not know of.
//@ if side
 * @param weights the path of the file @weights@ of the bundle
//@ end
//@ if open
 @memory_docs@
//@ end
 * @throws IllegalStateException where it cannot be made; from its functions where it is closed
 */
//@ if side
//@ if open
class Predictor(weights: String, memory: Long = 0) : Closeable {
    private val compiled = dlpack.@package@.Predictor(weights, memory)
//@ else
class Predictor(weights: String) : Closeable {
    private val compiled = dlpack.@package@.Predictor(weights)
//@ end
//@ else
//@ if open
class Predictor(memory: Long = 0) : Closeable {
    private val compiled = dlpack.@package@.Predictor(memory)
//@ else
class Predictor : Closeable {
    private val compiled = dlpack.@package@.Predictor()
//@ end
//@ end
//@ if shapes

    /**
     * The number of the set of shapes that inputs and outputs have:
     *
     @shape_docs@
     */
    var shape: Int
        get() = compiled.shape
        set(number) { compiled.shape = number }
//@ if open

    @reshapes@

    companion object {
        @memories@
    }
//@ end
//@ end
//@ if threads

    /** Computes on this many threads from now on, at most @threads@; at first on as many as there are processors. */
    fun setThreads(count: Int) = compiled.setThreads(count)
//@ end

    /**
     * Computes all outputs.
     *
     @input_docs@
     * @throws IllegalArgumentException for an input of a wrong length
     */
    fun run(@parameters@): Outputs =
        compiled.run(@arguments@).let { Outputs(@results@) }
//@ if pictures
//@ if classes

    /**
     * The [count] likeliest classes of a picture, the likeliest first.
     *
     * @param rgb [height] rows of [width] pixels, the bytes R, G, B of each
     * @throws IllegalArgumentException where it has not as many bytes as 3 x width x height
     */
    fun classify(rgb: ByteArray, width: Int, height: Int, count: Int = 5): List<Classification> =
        compiled.classify(rgb, width, height, count).map { Classification(it.index, it.label, it.probability) }
//@ end
//@ end
//@ if boxes

    /** What is in a picture, the surest first; [threshold] is the least score. */
    fun detect(
        rgb: ByteArray, width: Int, height: Int, threshold: Double = dlpack.@package@.Predictor.THRESHOLD
    ): List<dlpack.@package@.Predictor.Detection> = compiled.detect(rgb, width, height, threshold)
//@ end
//@ if numbers

    /** The [count] likeliest classes of the inputs that [run] takes, the likeliest first. */
    fun classify(@parameters@, count: Int = 5): List<Classification> =
        compiled.classify(@arguments@, count).map { Classification(it.index, it.label, it.probability) }
//@ end
    @text_functions@

    /** Gives the memory back. Closing twice is no error. */
    override fun close() = compiled.close()
}
