// Uses the bindings of the model of test_bindings.py's `awkward`, which reads what it prints. Its argument: the weights.
import dlpack.awkward.kotlin.Predictor

fun fails(name: String, action: () -> Unit) =
    try {
        action()
    } catch (e: RuntimeException) {
        println("$name error")
    }

fun main(arguments: Array<String>) {
    val x = floatArrayOf(1f, 2f, 3f, 4f)
    val c = longArrayOf(10, 20, 30)
    Predictor(arguments[0]).use { p ->
        val y = p.run(x, c)
        println("func ${y.func.joinToString(" ") { it.toInt().toString() }}")
        println("in ${y.in0.joinToString(" ")}")
        println("class ${p.classify(x, c, 1)[0].label}")
        fails("length") { p.run(x, longArrayOf(1)) }
    }
    fails("weights") { Predictor("absent") }
}
