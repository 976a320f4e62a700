// Uses dlpack.digits.kotlin.Predictor; what it prints is read by test_bindings.py.
import dlpack.digits.kotlin.Predictor
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

fun fails(name: String, action: () -> Unit) =
    try {
        action()
        println("$name: no error")
    } catch (e: RuntimeException) {
        println("$name: ${e.javaClass.simpleName} ${e.message}")
    }

fun main(arguments: Array<String>) {
    val image = FloatArray(64)
    ByteBuffer.wrap(File(arguments[0]).readBytes()).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(image)
    val picture = File(arguments[1]).readBytes()
    val predictor = Predictor()
    predictor.run(image).probability.forEach { println("run $it") }
    predictor.classify(picture, 8, 8, 3).forEach { println("class ${it.index} ${it.label} ${it.probability}") }
    fails("length") { predictor.run(FloatArray(3)) }
    fails("picture") { predictor.classify(picture, 9, 8) }
    fails("count") { predictor.classify(picture, 8, 8, 0) }
    predictor.close()
    predictor.close()
    fails("closed") { predictor.run(image) }
    fails("closed") { predictor.classify(picture, 8, 8) }
}
