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
        maven { url = uri("model/maven") } // the bundle that dlpack has built
    }
}

rootProject.name = "@name@-app"
include(":app")
