// Uses dlpack.found.kotlin.Predictor; what it prints is read by test_bindings_sets.py.
import dlpack.found.kotlin.Predictor
import java.io.File

fun fails(name: String, action: () -> Unit) =
    try {
        action()
        println("$name: no error")
    } catch (e: RuntimeException) {
        println("$name: ${e.javaClass.simpleName} ${e.message}")
    }

fun main(arguments: Array<String>) {
    val picture = File(arguments[0]).readBytes()
    val first = FloatArray(192) { 1.5f }
    val p = Predictor()
    p.setThreads(2)
    p.reshapeImage(1, 3, 8, 8)
    p.run(first).twice.let { println("set ${p.shape} ${it.size} ${it[191]}") }
    p.shape = 0
    p.run(FloatArray(108) { 2.5f }).twice.let { println("set ${p.shape} ${it.size} ${it[107]}") }
    for (d in p.detect(picture, 7, 5)) {
        println("found ${d.index} ${d.label} ${d.score} ${d.x} ${d.y} ${d.width} ${d.height}")
    }
    println("sure ${p.detect(picture, 7, 5, 2.0).size}")
    Predictor(Predictor.memoryForImage(1, 3, 8, 8)).use { small ->
        small.reshapeImage(1, 3, 8, 8)
        println("small ${small.run(first).twice[191]}")
        fails("memory") { small.reshapeImage(1, 3, 206, 206) }
        fails("memory") { small.shape = 10200 }
    }
    fails("largest") { Predictor.memoryForImage(1, 3, 8, 7) }
    fails("bounds") { p.reshapeImage(1, 3, 8, 208) }
    fails("step") { p.reshapeImage(1, 3, 8, 7) }
    fails("length") { p.run(first) }
    fails("picture") { p.detect(picture, 8, 5) }
    fails("shape") { p.shape = 10201 }
    fails("threads") { p.setThreads(3) }
    p.close()
    fails("closed") { p.shape = 0 }
    fails("closed") { p.reshapeImage(1, 3, 8, 8) }
    fails("closed") { p.setThreads(1) }
    fails("closed") { p.detect(picture, 7, 5) }
}
