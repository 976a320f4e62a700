import dlpack.writer.Predictor.FullException
import dlpack.writer.kotlin.Generation
import dlpack.writer.kotlin.Predictor

fun told(text: String) = text.toByteArray().let { utf8 -> "${utf8.size} ${utf8.sumBy { it.toInt() and 0xff }}" }

fun drawn(most: Int) = Generation(most, temperature = 1.2f, topK = 50, topP = 0.95f, seed = 7)

fun refused(name: String, call: () -> Unit): Exception? {
    try {
        call()
        println("$name: no error")
        return null
    } catch (e: Exception) {
        println("$name: ${e.message}")
        return e
    }
}

fun main(arguments: Array<String>) {
    val prompt = arguments[0]
    val p = Predictor()
    val ids = p.tokenize(prompt)
    val tokens = LongArray(ids.size) { ids[it].toLong() }
    println("ids ${ids.joinToString(" ")}")
    println("back ${p.detokenize(ids)}")
    println("plain ${p.tokenize(prompt, special = false).size}")
    println("tokens ${p.generate(tokens, drawn(6)).joinToString(" ")}")
    var pieces = 0
    val text = p.write(prompt, drawn(20)) { ++pieces == 0 }
    println("text ${told(text)} $pieces")
    println("first ${told(p.write(prompt, drawn(20)) { true })}")
    p.write(prompt, drawn(5))
    println("kept ${told(p.write("and", Generation(4, keep = true)))}")
    val most = Generation(99, stop = LongArray(0))
    val full = refused("full") { p.write(prompt, most) } as FullException
    println("written ${told(full.text)}")
    println("made ${(refused("full") { p.generate(tokens, most) } as FullException).tokens.size}")
    refused("long") { p.tokenize("a".repeat(40000)) }
    refused("empty") { p.generate(LongArray(0)) }
    refused("token") { p.generate(longArrayOf(9999)) }
    refused("sampler") { p.write(prompt, Generation(temperature = 1f, topP = 2f)) }
    refused("callback") { p.write(prompt) { throw IllegalStateException("of its own") } }
    p.close()
    refused("closed") { p.tokenize(prompt) }
}
