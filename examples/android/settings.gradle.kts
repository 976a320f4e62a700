pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}

dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
        maven { url = uri("classifier/maven") } // the bundle that dlpack has built
    }
}

rootProject.name = "dlpack-example"
include(":app")
