package dlpack.example

import android.Manifest
import android.content.pm.PackageManager
import android.os.Bundle
import android.os.SystemClock
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.Preview
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.camera.view.PreviewView
import androidx.core.content.ContextCompat
import dlpack.classifier.Classifier
import java.util.concurrent.Executors

/** Shows what the camera sees, and the three likeliest classes of it. */
class MainActivity : ComponentActivity() {
    private val analysis = Executors.newSingleThreadExecutor()
    private val classifier = lazy { Classifier() } // made on the thread that computes, not on the one that draws
    private val permission = registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
        if (granted) start() else classes.setText(R.string.no_camera)
    }
    private lateinit var classes: TextView

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.main)
        classes = findViewById(R.id.classes)
        val allowed = ContextCompat.checkSelfPermission(this, Manifest.permission.CAMERA)
        if (allowed == PackageManager.PERMISSION_GRANTED) {
            start()
        } else {
            permission.launch(Manifest.permission.CAMERA)
        }
    }

    private fun start() {
        val provider = ProcessCameraProvider.getInstance(this)
        provider.addListener({
            val preview = Preview.Builder().build()
            preview.setSurfaceProvider(findViewById<PreviewView>(R.id.preview).surfaceProvider)
            val frames = ImageAnalysis.Builder()
                .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
                .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                .build()
            frames.setAnalyzer(analysis) { image -> image.use(::classify) }
            provider.get().unbindAll()
            provider.get().bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, preview, frames)
        }, ContextCompat.getMainExecutor(this))
    }

    private fun classify(image: ImageProxy) {
        val began = SystemClock.elapsedRealtimeNanos()
        val plane = image.planes[0]
        val degrees = image.imageInfo.rotationDegrees
        val found = classifier.value.classify(plane.buffer, image.width, image.height, plane.rowStride, degrees, 3)
        val took = (SystemClock.elapsedRealtimeNanos() - began) / 1_000_000
        val lines = found.map { "%s %.0f %%".format(it.label, 100 * it.probability) } + "$took ms"
        runOnUiThread { classes.text = lines.joinToString("\n") }
    }

    override fun onDestroy() {
        super.onDestroy()
        analysis.execute { if (classifier.isInitialized()) classifier.value.close() } // behind the last frame
        analysis.shutdown()
    }
}
